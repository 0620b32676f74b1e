"""Training a teacher on the train part alone, by the engine that trains students; stopped, it goes on."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import save

from hkbench.config import cache_dir
from hkbench.data.augment import ViewPolicy, sample_views
from hkbench.data.splits import Split
from hkbench.data.store import PictureStore
from hkbench.errors import HkbenchError
from hkbench.models.architecture import Architecture
from hkbench.models.build import build
from hkbench.store import atomic
from hkbench.store.digest import sha256_of
from hkbench.store.environment import now
from hkbench.store.records import EpochRecord, Metrics
from hkbench.training.checkpoint import load_checkpoint, save_checkpoint
from hkbench.training.feed import TrainingData
from hkbench.training.loop import EpochResult, Training, TrainingConfig
from hkbench.training.losses import LossConfig
from hkbench.training.teacher import (
    Teacher,
    TeacherRecipe,
    TeacherRecord,
    load_teacher,
    starting_weights,
    teacher_key,
)

log = logging.getLogger(__name__)

VIEWS_OF_A_TEACHER = 16
OnEpoch = Callable[[EpochResult], None]


def train_teacher(
    recipe: TeacherRecipe,
    store: PictureStore,
    split: Split,
    *,
    device: torch.device,
    folder: Path | None = None,
    on_epoch: OnEpoch | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> Teacher:
    """Train a teacher until validation stops rising or its epochs end, and keep the best epoch's weights.

    A training that was stopped goes on from its last whole epoch. Two processes that want the same teacher
    train it once.

    Args:
        recipe: what to train.
        store: pictures at the recipe's size.
        split: its train part is trained on, its validation part decides when to stop.
        device: where to train.
        folder: where to keep it; the cache by default.
        on_epoch: called after each epoch.
        advance: called with (steps done, steps of the epoch) now and then.
    """
    key = teacher_key(recipe, store.fingerprint, split.hash)
    folder = folder or cache_dir() / "teachers" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if (folder / "teacher.json").is_file():
            return load_teacher(folder)
        return _train(recipe, store, split, folder, device, on_epoch, advance)


def _train(
    recipe: TeacherRecipe,
    store: PictureStore,
    split: Split,
    folder: Path,
    device: torch.device,
    on_epoch: OnEpoch | None,
    advance: Callable[[int, int], None] | None,
) -> Teacher:
    training = _teacher_training(recipe, store, split, device)
    training.on_step = advance
    progress = _Progress.resume(folder / "checkpoint.pt", training)
    started = time.perf_counter() - progress.seconds
    for result in () if progress.is_over(recipe.patience) else training.epochs():
        progress.add(result, training, time.perf_counter() - started)
        if on_epoch is not None:
            on_epoch(result)
        if progress.is_over(recipe.patience):
            break
    return _keep_teacher(recipe, store, split, folder, progress)


@dataclass(kw_only=True)
class _Progress:
    """How far a teacher's training is; on disk after each epoch, so that a stop costs one epoch at most."""

    path: Path
    epochs: list[EpochRecord]
    best: dict[str, torch.Tensor]
    best_epoch: int
    seconds: float

    @classmethod
    def resume(cls, path: Path, training: Training) -> "_Progress":
        """Read what an earlier run has left at `path` into the training, or begin anew."""
        state = _left_behind(path)
        if state is None:
            return cls(path=path, epochs=[], best={}, best_epoch=0, seconds=0.0)
        training.load_state_dict(state["training"])
        return cls(
            path=path,
            epochs=[EpochRecord.model_validate(row) for row in state["epochs"]],
            best=state["best"],
            best_epoch=state["best_epoch"],
            seconds=state["seconds"],
        )

    @property
    def best_metrics(self) -> Metrics:
        """The validation metrics of the best epoch."""
        return self.epochs[self.best_epoch - 1].metrics

    def add(self, result: EpochResult, training: Training, seconds: float) -> None:
        """Take up an epoch, and keep the weights if it is the best so far."""
        self.epochs.append(_epoch_record(result))
        self.seconds = seconds
        if not self.best or result.metrics["accuracy"] > self.best_metrics["accuracy"]:
            self.best_epoch = result.epoch
            self.best = {name: tensor.cpu().clone() for name, tensor in training.trained.state_dict().items()}
        save_checkpoint(
            self.path,
            {
                "training": training.state_dict(),
                "epochs": [row.model_dump() for row in self.epochs],
                "best": self.best,
                "best_epoch": self.best_epoch,
                "seconds": self.seconds,
            },
        )

    def is_over(self, patience: int) -> bool:
        """Whether validation has stopped rising."""
        return bool(self.epochs) and self.epochs[-1].epoch - self.best_epoch >= patience


def _left_behind(path: Path) -> dict[str, Any] | None:
    """Return the checkpoint that an earlier run has left; None without one that can be read."""
    if not path.is_file():
        return None
    try:
        return load_checkpoint(path)
    except HkbenchError as error:
        log.warning("%s The teacher's training begins anew.", error)
        return None


def _keep_teacher(
    recipe: TeacherRecipe, store: PictureStore, split: Split, folder: Path, progress: _Progress
) -> Teacher:
    weights = folder / "model.safetensors"
    save_half(progress.best, weights)
    record = TeacherRecord(
        recipe=recipe,
        weights=starting_weights(recipe),
        data=store.key,
        fingerprint=store.fingerprint,
        split_hash=split.hash,
        classes=list(store.classes),
        validation=progress.best_metrics,
        best_epoch=progress.best_epoch,
        epochs=progress.epochs,
        seconds=progress.seconds,
        sha256=sha256_of(weights),
        created=now(),
    )
    atomic.write_text(folder / "teacher.json", record.model_dump_json(indent=2) + "\n")
    progress.path.unlink(missing_ok=True)
    return Teacher(weights=weights, record=record, shipped=False)


def _teacher_training(
    recipe: TeacherRecipe, store: PictureStore, split: Split, device: torch.device
) -> Training:
    network = build(
        Architecture(model=recipe.model, image_size=recipe.image_size),
        classes=len(store.classes),
        weights=starting_weights(recipe),
        seed=recipe.seed,
    )
    views = sample_views(VIEWS_OF_A_TEACHER, len(split.train), recipe.seed, ViewPolicy())
    data = TrainingData(
        pictures=store.pictures,
        labels=store.labels,
        train=split.train,
        validation=split.validation,
        views=views.parameters,
    )
    config = TrainingConfig(
        epochs=recipe.max_epochs,
        batch_size=recipe.batch_size,
        optimizer=recipe.optimizer_config,
        loss=LossConfig(name="hard", label_smoothing=recipe.label_smoothing),
        warmup_epochs=1.0,
        seed=recipe.seed,
    )
    return Training(network, data, config, device)


def _epoch_record(result: EpochResult) -> EpochRecord:
    return EpochRecord(
        trial="teacher",
        epoch=result.epoch,
        train_loss=result.train_loss,
        learning_rate=result.learning_rate,
        seconds=result.seconds,
        metrics=result.metrics,
    )


def save_half(state: dict[str, torch.Tensor], path: Path) -> None:
    """Write a state dict with its floats in float16, contiguous, as a whole file."""
    halved = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in state.items()
    }
    with atomic.replacing(path) as temporary:
        temporary.write_bytes(save(halved))
