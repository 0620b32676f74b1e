"""What all trials share, made once before the first: pictures, split, views, teacher and its logits."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from hkbench.config import cache_dir, usable_cores
from hkbench.data.augment import ViewPolicy, ViewTable, sample_views
from hkbench.data.sources import Source, open_source
from hkbench.data.splits import Split, load_split
from hkbench.data.store import PictureStore, build_store, open_store
from hkbench.search.plan import SearchPlan
from hkbench.store.atomic import replacing
from hkbench.store.records import DataRecord, SplitRecord
from hkbench.training.logits import open_logits, teacher_logits
from hkbench.training.loop import EpochResult, TrainingData
from hkbench.training.teacher import Teacher, TeacherRecipe, find_teacher, train_teacher


class Listener(Protocol):
    """Who is told how a search goes: the command line, or nobody."""

    def phase(self, name: str) -> None:
        """A phase of the search begins."""

    def advance(self, done: int, total: int) -> None:
        """The phase is so far."""

    def teacher_epoch(self, result: EpochResult, recipe: TeacherRecipe) -> None:
        """The teacher was trained for one more epoch."""


@dataclass(frozen=True, kw_only=True)
class SharedData:
    """Where a worker finds what it trains on; small, and the same for every trial."""

    stores: dict[int, Path]
    split: Path
    views: Path
    teacher_logits: Path | None
    classes: tuple[str, ...]

    def open(self, image_size: int) -> TrainingData:
        """Map everything that a trial of this picture size needs, without reading the pictures."""
        store = open_store(self.stores[image_size])
        with np.load(self.split) as parts:
            train, validation = parts["train"], parts["validation"]
        views: NDArray[np.float16] = np.load(self.views, mmap_mode="r")
        return TrainingData(
            pictures=store.pictures,
            labels=store.labels,
            train=train,
            validation=validation,
            views=views,
            teacher_logits=open_logits(self.teacher_logits) if self.teacher_logits is not None else None,
        )


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the driver keeps of the preparation; times in seconds."""

    source: Source
    stores: dict[int, PictureStore]
    split: Split
    teacher: Teacher
    shared: SharedData
    phase_seconds: dict[str, float]

    def data_record(self) -> DataRecord:
        """Return how the run directory describes the pictures."""
        store = next(iter(self.stores.values()))
        return DataRecord(
            name=self.source.name,
            fingerprint=store.fingerprint,
            classes=list(store.classes),
            pictures=len(store.labels),
            rejected=[(name, reason) for name, reason in store.rejected],
            split=SplitRecord(
                scheme=self.split.scheme,
                seed=self.split.seed,
                hash=self.split.hash,
                train=len(self.split.train),
                validation=len(self.split.validation),
                test=len(self.split.test),
            ),
        )


class PhaseClock:
    """Times the phases of a search, one after the other, on top of what they took before it was resumed."""

    def __init__(self, listener: Listener, before: dict[str, float]) -> None:
        self.seconds = dict(before)
        self._listener = listener
        self._name: str | None = None
        self._started = time.perf_counter()

    def begin(self, name: str) -> None:
        """End the phase that is on, if any, and begin another."""
        self.end()
        self._name, self._started = name, time.perf_counter()
        self._listener.phase(name)

    def end(self) -> None:
        """End the phase that is on."""
        if self._name is not None:
            self.seconds[self._name] = self.seconds.get(self._name, 0.0) + time.perf_counter() - self._started
        self._name = None


def prepare(plan: SearchPlan, clock: PhaseClock, listener: Listener) -> Prepared:
    """Make or find all that the trials of a plan share.

    Raises:
        UsageError: data, group rule, split or teacher that can't be used as they are.
    """
    torch.set_num_threads(usable_cores())
    clock.begin("pictures")
    source = open_source(plan.data, plan.group_by)
    sizes = sorted({size for _, size, _ in plan.space.architectures()} | {plan.teacher.image_size})
    stores = {size: build_store(source, size, advance=listener.advance) for size in sizes}
    any_store = stores[sizes[0]]
    split = load_split(any_store, plan.split, plan.split_seed)
    teacher = _teacher(plan, stores[plan.teacher.image_size], split, clock, listener)

    clock.begin("teacher logits")
    used = _shortened(split, plan.train_pictures)
    views = sample_views(plan.views, len(used.train), plan.seed, ViewPolicy())
    logits = teacher_logits(
        teacher,
        stores[plan.teacher.image_size],
        used,
        views,
        device=torch.device(plan.device),
        advance=listener.advance,
    )
    clock.end()
    shared = SharedData(
        stores={size: store.path for size, store in stores.items()},
        split=_keep_split(used),
        views=_keep_views(views),
        teacher_logits=logits,
        classes=any_store.classes,
    )
    return Prepared(
        source=source,
        stores=stores,
        split=used,
        teacher=teacher,
        shared=shared,
        phase_seconds=clock.seconds,
    )


def _teacher(
    plan: SearchPlan, store: PictureStore, split: Split, clock: PhaseClock, listener: Listener
) -> Teacher:
    used = _shortened(split, plan.train_pictures)
    found = find_teacher(plan.teacher, store.fingerprint, split.hash) or find_teacher(
        plan.hurried_teacher, store.fingerprint, used.hash
    )
    if found is not None:
        return found
    clock.begin("teacher")
    return train_teacher(
        plan.hurried_teacher,
        store,
        used,
        device=torch.device(plan.device),
        on_epoch=lambda result: listener.teacher_epoch(result, plan.hurried_teacher),
        advance=listener.advance,
    )


def _shortened(split: Split, train_pictures: int | None) -> Split:
    """Return the split with a train part of at most so many pictures, evenly drawn."""
    if train_pictures is None or train_pictures >= len(split.train):
        return split
    kept = np.linspace(0, len(split.train) - 1, train_pictures).round().astype(np.int64)
    return Split(
        scheme=split.scheme,
        seed=split.seed,
        hash=hashlib.sha256(f"{split.hash} {train_pictures}".encode()).hexdigest(),
        train=split.train[kept],
        validation=split.validation,
        test=split.test,
    )


def _keep_split(split: Split) -> Path:
    path = cache_dir() / "splits" / f"{split.hash}.npz"
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, train=split.train, validation=split.validation, test=split.test)
    return path


def _keep_views(views: ViewTable) -> Path:
    path = cache_dir() / "views" / f"{views.key}.npy"
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, views.parameters)
    return path
