"""Features of frozen stages: computed once per view, shared, and training on them is training the network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_fakes import CLASSES, bright_pictures, three_parts

from hkbench.data.augment import ViewPolicy, sample_views
from hkbench.models.build import build
from hkbench.training import features as features_module
from hkbench.training.features import frozen_features
from hkbench.training.feed import TrainingData
from hkbench.training.loop import Training, TrainingConfig
from hkbench.training.losses import LossConfig
from hkbench.training.optimizers import OptimizerConfig

CPU = torch.device("cpu")


@pytest.fixture
def parts(tmp_path, monkeypatch):
    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path / "cache"))
    store, split = bright_pictures(tmp_path), three_parts()
    table = sample_views(2, len(split.train), 0, ViewPolicy())
    data = TrainingData(
        pictures=store.pictures,
        labels=store.labels,
        train=split.train,
        validation=split.validation,
        views=table.parameters,
    )
    return store, split, table, data


def network(frozen_stages=2, seed=1):
    return build("household_s", classes=len(CLASSES), seed=seed).freeze(frozen_stages)


def features_of(parts, trained):
    store, split, table, _ = parts
    return frozen_features(trained, store, split, table, device=CPU, workers=2)


CONFIG = TrainingConfig(
    epochs=4,
    batch_size=16,
    optimizer=OptimizerConfig(name="sgd", learning_rate=0.01),
    loss=LossConfig(name="hard"),
    mixed_precision=False,  # bfloat16 would hide what float16 features change
    seed=3,
)


def train(trained, data):
    training = Training(trained, data, CONFIG, CPU)
    return training, list(training.epochs())


@pytest.mark.parametrize("frozen_stages", [1, 3, 5])
def test_training_on_features_is_training_the_whole_network(parts, frozen_stages):
    data = parts[-1]
    found = features_of(parts, network(frozen_stages))
    on_features = replace(data, inputs=found.train, validation_inputs=found.validation)
    ahead, ahead_epochs = train(network(frozen_stages), on_features)
    whole, whole_epochs = train(network(frozen_stages), data)
    for one, other in zip(ahead_epochs, whole_epochs, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=0.05), "features are float16"
        assert one.metrics["log_loss"] == pytest.approx(other.metrics["log_loss"], rel=0.05)
    state = whole.network.state_dict()
    for name, tensor in ahead.network.state_dict().items():
        torch.testing.assert_close(tensor.float(), state[name].float(), rtol=0.05, atol=0.02)
    assert not torch.equal(ahead.network.head[-1].weight, network(frozen_stages).head[-1].weight)


def test_a_body_runs_once_for_all_trials_that_freeze_it(parts, monkeypatch):
    first = features_of(parts, network())
    monkeypatch.setattr(features_module, "_run", lambda *_: pytest.fail("computed again"))
    again = features_of(parts, network())
    np.testing.assert_array_equal(first.train, again.train)
    with pytest.raises(pytest.fail.Exception):
        features_of(parts, network(frozen_stages=3))
    with pytest.raises(pytest.fail.Exception):
        features_of(parts, network(seed=2))


def test_only_the_frozen_weights_decide_the_key(parts, monkeypatch):
    trained = network()
    features_of(parts, trained)
    torch.nn.init.zeros_(trained.head[-1].weight)
    monkeypatch.setattr(features_module, "_run", lambda *_: pytest.fail("computed again"))
    features_of(parts, trained)


def test_what_does_not_fit_is_computed_on_the_way(parts, monkeypatch):
    monkeypatch.setattr(features_module, "fits_ahead", lambda _: False)
    assert features_of(parts, network()) is None


def test_resumed_on_features_equals_unbroken(parts):
    found = features_of(parts, network())
    data = replace(parts[-1], inputs=found.train, validation_inputs=found.validation)
    _, whole = train(network(), data)
    first = Training(network(), data, CONFIG, CPU)
    next(first.epochs())
    second = Training(network(seed=9), data, CONFIG, CPU)
    second.load_state_dict(first.state_dict())
    assert [row.train_loss for row in second.epochs()] == [row.train_loss for row in whole[1:]]
