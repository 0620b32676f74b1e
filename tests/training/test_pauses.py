"""A training that shares its device pauses between two batches, and is the same training for it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from hkbench.data.augment import ViewPolicy, sample_views
from hkbench.store.device_lock import DeviceShare, alone_on, devices_of
from hkbench.training import evaluate
from hkbench.training.feed import TrainingData
from hkbench.training.loop import Training, TrainingConfig
from hkbench.training.losses import loss_config
from hkbench.training.optimizers import OptimizerConfig

BATCH_S = 0.001


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path))


class Watched(nn.Module):
    """A linear network that notes when it was called."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3 * 8 * 8, 3)
        self.calls = []

    def forward(self, pictures):
        begun = time.perf_counter()
        found = self.linear(pictures.flatten(1))
        while time.perf_counter() - begun < BATCH_S:
            pass
        self.calls.append((begun, time.perf_counter()))
        return found


class Counting(DeviceShare):
    """A share that counts how often it lets others go first."""

    asked = 0

    def pause(self):
        self.asked += 1
        super().pause()


def training(epochs, share=None):
    rng = np.random.default_rng(0)
    train, validation = np.arange(48), np.arange(48, 60)
    data = TrainingData(
        pictures=rng.integers(0, 255, (60, 3, 8, 8), dtype=np.uint8),
        labels=np.arange(60) % 3,
        train=train,
        validation=validation,
        views=sample_views(1, len(train), 0, ViewPolicy()).parameters,
    )
    config = TrainingConfig(
        epochs=epochs,
        batch_size=8,
        optimizer=OptimizerConfig(name="sgd", learning_rate=0.01),
        loss=loss_config("hard"),
        mixed_precision=False,
    )
    made = Training(Watched(), data, config, torch.device("cpu"))
    if share is not None:
        made.device_share = share
    return made


def results(run):
    return [(epoch.train_loss, epoch.metrics) for epoch in run.epochs()]


def test_it_lets_others_go_first_before_every_batch_of_training_and_evaluation(monkeypatch):
    monkeypatch.setattr(evaluate, "EVALUATION_BATCH", 5)
    share = Counting(devices_of(None))
    found = results(training(2, share))
    assert share.asked == 2 * (6 + 3)
    assert found == results(training(2))


def test_no_batch_runs_while_something_is_measured_and_the_result_is_the_same():
    run = training(40, DeviceShare(devices_of(None)))
    found = []
    thread = threading.Thread(target=lambda: found.extend(results(run)))
    thread.start()
    measured = []
    while thread.is_alive() and len(measured) < 4:
        with alone_on(devices_of(None)) as alone:
            begun = time.perf_counter()
            assert alone
            time.sleep(0.05)
            measured.append((begun, time.perf_counter()))
        calls = len(run.network.calls)
        while thread.is_alive() and len(run.network.calls) <= calls:
            time.sleep(0.001)
    thread.join()
    assert len(measured) == 4
    for begun, ended in run.network.calls:
        assert all(ended <= first or begun >= last for first, last in measured)
    assert found == results(training(40))


def test_what_a_training_does_between_its_epochs_keeps_nobody_waiting():
    def measured():
        with alone_on(devices_of(None), batch_s=0) as alone:
            return alone

    run = training(2, DeviceShare(devices_of(None)))
    with ThreadPoolExecutor(1) as elsewhere:
        for _ in run.epochs():
            assert elsewhere.submit(measured).result()
