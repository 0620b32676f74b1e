"""torch.compile as an option: the same training, by compiled code."""

import shutil

import pytest
import torch
from training_fakes import bright_pictures, three_parts

from hkbench.data.augment import ViewPolicy, sample_views
from hkbench.models.build import build
from hkbench.training.feed import TrainingData
from hkbench.training.loop import Training, TrainingConfig

CPU = torch.device("cpu")


@pytest.mark.slow
def test_a_compiled_training_is_the_same_training(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    store, split = bright_pictures(tmp_path), three_parts()
    data = TrainingData(
        pictures=store.pictures,
        labels=store.labels,
        train=split.train,
        validation=split.validation,
        views=sample_views(1, len(split.train), 0, ViewPolicy()).parameters,
    )

    def losses(compiled):
        config = TrainingConfig(epochs=2, batch_size=16, mixed_precision=False, compiled=compiled)
        network = build("baseline_cnn", classes=3, seed=0)
        network.head[3] = torch.nn.Identity()  # compiled dropout draws other numbers
        return [epoch.train_loss for epoch in Training(network, data, config, CPU).epochs()]

    assert losses(compiled=True) == pytest.approx(losses(compiled=False), rel=1e-3)
