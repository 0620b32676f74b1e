"""One trial of the peer that goes on from its last checkpoint, with hkbench's own epochs.

In a module of its own, since Ray pickles what lies in the main module by value.
"""

import json
import tempfile
from pathlib import Path

import torch
from ray import tune

from benchmarks.killed.notes import write
from benchmarks.peers.shared import split_of
from hkbench.data.augment import ViewPolicy, sample_views
from hkbench.data.build import build_store
from hkbench.data.sources import open_source
from hkbench.models.build import build
from hkbench.training.feed import TrainingData
from hkbench.training.loop import Training, TrainingConfig
from hkbench.training.optimizers import OptimizerConfig

CHECKPOINT = "checkpoint.pt"
IMAGE_SIZE = 32
BATCH_SIZE = 16


def train(config: dict[str, float], *, pictures: str, epochs: int) -> None:
    """Train one trial from its last checkpoint on, with a note, a report and a checkpoint an epoch."""
    torch.set_num_threads(1)
    training = _training(config, pictures, epochs)
    kept = tune.get_checkpoint()
    if kept is not None:
        with kept.as_directory() as folder:
            training.load_state_dict(torch.load(Path(folder) / CHECKPOINT, weights_only=False))
    trial, point = tune.get_context().get_trial_id(), json.dumps(config, sort_keys=True)
    while training.epoch < epochs:
        write("began", trial, training.epoch + 1, point)
        training.train_epoch()
        training.epoch += 1
        write("ended", trial, training.epoch, point)
        metrics = training.evaluate()
        with tempfile.TemporaryDirectory() as folder:
            torch.save(training.state_dict(), Path(folder) / CHECKPOINT)
            tune.report(
                {"accuracy": metrics["accuracy"], "epochs": training.epoch},
                checkpoint=tune.Checkpoint.from_directory(folder),
            )


def _training(config: dict[str, float], pictures: str, epochs: int) -> Training:
    source = open_source(pictures)
    store = build_store(source, IMAGE_SIZE, workers=1)
    split = split_of(source)
    data = TrainingData(
        pictures=store.pictures,
        labels=store.labels,
        train=split.train,
        validation=split.validation,
        views=sample_views(1, len(split.train), 0, ViewPolicy()).parameters,
    )
    network = build("household_s", classes=len(source.classes), weights="none", seed=0)
    optimizer = OptimizerConfig(
        name="sgd", learning_rate=config["learning_rate"], momentum=config["momentum"]
    )
    recipe = TrainingConfig(epochs=epochs, batch_size=BATCH_SIZE, optimizer=optimizer)
    return Training(network, data, recipe, torch.device("cpu"))
