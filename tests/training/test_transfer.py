"""Transfer: stages that rest and wake one after the other, and an auxiliary head that trains along."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_network import CLASSES, STAGES, WIDTH, bright_data, small_classifier
from torch import nn

from hkbench.errors import UsageError
from hkbench.models.classifier import Classifier, Parts, pooled_head
from hkbench.training.checkpoint import load_checkpoint, save_checkpoint
from hkbench.training.loop import Training, TrainingConfig
from hkbench.training.losses import LossConfig
from hkbench.training.optimizers import OPTIMIZERS, OptimizerConfig

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data():
    return bright_data()


def training(data, network=None, *, optimizer="sgd", weight_decay=1e-4, **changes):
    given = {"mixed_precision": False, "epochs": 5, "batch_size": 8, "seed": 1, **changes}
    rates = OptimizerConfig(name=optimizer, weight_decay=weight_decay)
    config = TrainingConfig(optimizer=rates, **given)
    return Training(network or small_classifier(), data, config, CPU)


def states_of(network):
    """Return a copy of each stage's tensors, batch-norm statistics included, the first stage's first."""
    return [
        {name: tensor.clone() for name, tensor in network.body[stage].state_dict().items()}
        for stage in range(STAGES)
    ]


def stages_that_moved(run, before):
    after = states_of(run.trained)
    return [
        stage
        for stage in range(STAGES)
        if any(not torch.equal(after[stage][name], tensor) for name, tensor in before[stage].items())
    ]


def moved_by_epoch(run):
    found, before = [], states_of(run.trained)
    for _ in run.epochs():
        found.append(stages_that_moved(run, before))
        before = states_of(run.trained)
    return found


def test_the_head_learns_first_and_every_epoch_one_more_stage_the_last_first(data):
    assert moved_by_epoch(training(data, gradual_epochs=1)) == [[], [2], [1, 2], [0, 1, 2], [0, 1, 2]]


def test_a_stage_wakes_every_so_many_epochs(data):
    assert moved_by_epoch(training(data, gradual_epochs=2)) == [[], [], [2], [2], [1, 2]]


def test_frozen_stages_never_wake(data):
    run = training(data, small_classifier(frozen=2), gradual_epochs=1)
    assert moved_by_epoch(run) == [[], [2], [2], [2], [2]]
    assert run.network.resting_stages == run.network.frozen_stages == 2


@pytest.mark.parametrize("mixed_precision", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_optimizer_moves_what_rests_and_each_takes_up_what_wakes(data, optimizer, mixed_precision):
    run = training(data, optimizer=optimizer, gradual_epochs=1, mixed_precision=mixed_precision)
    assert moved_by_epoch(run) == [[], [2], [1, 2], [0, 1, 2], [0, 1, 2]]


def test_the_moving_average_rests_and_wakes_along(data):
    run = training(data, gradual_epochs=1, ema_decay=0.9)
    assert moved_by_epoch(run) == [[], [2], [1, 2], [0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resumed_in_the_middle_of_waking_equals_unbroken(data, tmp_path, optimizer, ema_decay):
    changes = {"gradual_epochs": 1, "ema_decay": ema_decay, "optimizer": optimizer, "epochs": 4}
    whole = list(training(data, **changes).epochs())
    for done in (1, 2, 3):
        first = training(data, **changes)
        for _, _ in zip(range(done), first.epochs(), strict=False):
            pass
        save_checkpoint(tmp_path / "c.pt", first.state_dict())
        second = training(data, small_classifier(seed=9), **changes)
        second.load_state_dict(load_checkpoint(tmp_path / "c.pt"))
        rest = list(second.epochs())
        assert [(row.epoch, row.train_loss, row.metrics) for row in rest] == [
            (row.epoch, row.train_loss, row.metrics) for row in whole[done:]
        ]


def test_a_network_without_stages_cannot_wake_one_by_one(data):
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, CLASSES))
    parts = Parts(body=nn.Sequential(), head=pooled_head(3, CLASSES, dropout=0), channels=3, stages=())
    for network in (plain, Classifier("bare", CLASSES, parts)):
        with pytest.raises(UsageError, match="gradual_epochs is 2, but the network has no stages"):
            training(data, network, gradual_epochs=2)


def one_step(data, weight, *, guessing=False):
    """Return the training after a step on all pictures, and its loss; the auxiliary head may be a guess."""
    network = small_classifier(auxiliary_weight=weight)
    if guessing:
        nn.init.zeros_(network.auxiliary[-1].weight)
        nn.init.zeros_(network.auxiliary[-1].bias)
    run = training(data, network, epochs=1, batch_size=72, weight_decay=0.0)
    return run, run.train_epoch()


def test_an_auxiliary_head_adds_its_weighted_cross_entropy(data):
    """The cross-entropy of a guess is ln(classes)."""
    _, alone = one_step(data, None)
    for weight in (0.3, 0.6):
        _, both = one_step(data, weight, guessing=True)
        assert both - alone == pytest.approx(weight * np.log(CLASSES), rel=1e-4)


def test_an_auxiliary_head_learns_and_teaches_the_stages_before_it(data):
    (with_weight, _), (without, _) = one_step(data, 0.6), one_step(data, 0.0)
    start = small_classifier(auxiliary_weight=0.6)
    assert not torch.equal(with_weight.network.auxiliary[-1].weight, start.auxiliary[-1].weight)
    assert torch.equal(without.network.auxiliary[-1].weight, start.auxiliary[-1].weight)
    for stage, differs in ((0, True), (1, True), (2, False)):
        one, other = (run.network.body[stage][0].weight for run in (with_weight, without))
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6) != differs


def test_evaluation_reads_the_head_alone(data):
    run, same = (training(data, small_classifier(auxiliary_weight=weight)) for weight in (0.6, None))
    nn.init.constant_(run.network.auxiliary[-1].weight, float("nan"))
    assert run.evaluate() == same.evaluate()


def test_kept_features_pass_the_auxiliary_head_by(data):
    rng = np.random.default_rng(0)
    features = rng.random((2, 72, 8, 8, WIDTH)).astype(np.float16)
    kept = replace(data, inputs=features, validation_inputs=features[0, :24])
    losses = []
    for weight in (0.6, None):
        run = training(kept, small_classifier(auxiliary_weight=weight, frozen=2), epochs=2)
        losses.append([row.train_loss for row in run.epochs()])
    assert losses[0] == losses[1]


def test_an_auxiliary_head_is_left_out_where_stages_are_frozen(data):
    run, same = (training(data, small_classifier(auxiliary_weight=w, frozen=1)) for w in (0.6, None))
    assert run.train_epoch() == same.train_epoch()


def test_an_auxiliary_head_smooths_labels_like_the_other(data):
    of_one_class = replace(data, labels=np.zeros_like(data.labels))
    losses = []
    for smoothing in (0.0, 0.5):
        network = small_classifier(auxiliary_weight=1.0)
        nn.init.zeros_(network.auxiliary[-1].weight)
        network.auxiliary[-1].bias.data = torch.linspace(-3, 3, CLASSES)
        loss = LossConfig(name="hard", label_smoothing=smoothing)
        plain, both = (
            training(of_one_class, each, epochs=1, batch_size=72, loss=loss).train_epoch()
            for each in (small_classifier(), network)
        )
        losses.append(both - plain)
    # log Σ exp(b) − b₀, of which half a b₀ gives way to the mean of b, 0
    assert losses[0] - losses[1] == pytest.approx(1.5, abs=1e-3)
