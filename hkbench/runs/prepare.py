"""What all trials share, made once before the first: pictures, split, views, teacher and its logits."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from hkbench.analysis.misclassification import load_costs
from hkbench.config import usable_cores
from hkbench.data.augment import ViewTable, sample_views
from hkbench.data.build import build_stores
from hkbench.data.sources import Source, open_source
from hkbench.data.splits import Split, load_split, shortened
from hkbench.data.store import PictureStore
from hkbench.driver.plan import SearchPlan, as_recorded
from hkbench.runs.timing import within_budget
from hkbench.runs.views import MOST_VIEWS, number_of_views
from hkbench.store.records import DataRecord, RunRecord, SplitRecord
from hkbench.training.given_teacher import open_teacher
from hkbench.training.logits import TeacherPass
from hkbench.training.loop import EpochResult
from hkbench.training.rendered import rendered_views
from hkbench.training.teacher import Teacher, TeacherRecipe, find_teacher
from hkbench.training.teaching import train_teacher
from hkbench.trials.shared import SharedData, keep_split, keep_views


class Listener(Protocol):
    """Who is told how a search goes: the command line, or nobody."""

    def phase(self, name: str) -> None:
        """A phase of the search begins."""

    def advance(self, done: int, total: int) -> None:
        """The phase is so far."""

    def planned(self, plan: SearchPlan) -> None:
        """The plan is whole: its number of epochs is chosen."""

    def teacher_epoch(self, result: EpochResult, recipe: TeacherRecipe) -> None:
        """The teacher was trained for one more epoch."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the driver keeps of the preparation; times in seconds.

    Students are compared with the first teacher. `plan` is the one that was asked for, its number of epochs
    chosen.
    """

    plan: SearchPlan
    source: Source
    stores: dict[int, PictureStore]
    split: Split
    teachers: list[Teacher]
    views: int
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
            views=self.views,
            teachers=[teacher.record.sha256 for teacher in self.teachers],
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


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The decoded pictures by size, and how they are split: `whole` as it is kept, `split` as it is used."""

    source: Source
    stores: dict[int, PictureStore]
    whole: Split
    split: Split

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names, in the order of the logits."""
        return next(iter(self.stores.values())).classes


def open_pictures(plan: SearchPlan, clock: PhaseClock, listener: Listener) -> Pictures:
    """Decode the pictures at all sizes that students and teachers take, or find them decoded.

    Raises:
        UsageError: data, group rule, split or costs that can't be used as they are.
    """
    torch.set_num_threads(usable_cores())
    clock.begin("pictures")
    source = open_source(plan.data, plan.group_by)
    sizes = {*plan.space.image_sizes(), *(recipe.image_size for recipe in plan.teachers)}
    stores = build_stores(source, sorted(sizes), advance=listener.advance)
    whole = load_split(next(iter(stores.values())), plan.split, plan.split_seed)
    pictures = Pictures(
        source=source, stores=stores, whole=whole, split=shortened(whole, plan.train_pictures)
    )
    if plan.costs is not None:
        load_costs(plan.costs, pictures.classes)  # refused now rather than at the end
    return pictures


def prepare(
    plan: SearchPlan,
    pictures: Pictures,
    clock: PhaseClock,
    listener: Listener,
    recorded: RunRecord | None = None,
) -> Prepared:
    """Make or find all that the trials of a plan share, beside the pictures.

    `recorded` is what a search that is resumed began with: the number of views, and of epochs where the plan
    leaves them to its budget.

    Raises:
        UsageError: a teacher that can't be used as it is.
    """
    stores, split = dict(pictures.stores), pictures.split
    teachers = _teachers(plan, pictures, clock, listener)
    if plan.teacher_folder is not None:
        given_size = teachers[0].record.recipe.image_size
        stores |= build_stores(pictures.source, [given_size], advance=listener.advance)
    plan = within_budget(plan, stores, split) if recorded is None else as_recorded(plan, recorded)
    listener.planned(plan)
    recorded_views = recorded.data.views if recorded is not None and recorded.data is not None else None
    views, logits = _views(plan, teachers, stores, split, recorded_views, clock, listener)
    rendered: dict[int, Path] = {}
    if plan.device == "cpu":  # a GPU renders each batch in less time than it would take to fetch it
        clock.begin("views")
        needed = (stores[size] for size in plan.space.image_sizes())
        rendered = rendered_views(needed, split, views, advance=listener.advance)
    clock.end()
    shared = SharedData(
        stores={size: store.path for size, store in stores.items()},
        split=keep_split(split),
        views=keep_views(views),
        rendered=rendered,
        teachers=[teacher.weights.parent for teacher in teachers],
        teacher_logits=logits,
        classes=pictures.classes,
    )
    return Prepared(
        plan=plan,
        source=pictures.source,
        stores=stores,
        split=split,
        teachers=teachers,
        views=views.parameters.shape[0],
        shared=shared,
        phase_seconds=clock.seconds,
    )


def _views(
    plan: SearchPlan,
    teachers: list[Teacher],
    stores: dict[int, PictureStore],
    split: Split,
    recorded_views: int | None,
    clock: PhaseClock,
    listener: Listener,
) -> tuple[ViewTable, Path | None]:
    """Return the views, and what the teachers say of them where there are any."""
    number = plan.views or recorded_views
    if not teachers:
        number = number or min(MOST_VIEWS, plan.space.schedule.max_epochs)
        return sample_views(number, len(split.train), plan.seed, plan.space.augmentation), None
    clock.begin("teacher logits")
    teacher_pass = TeacherPass(teachers, stores, split, torch.device(plan.device))
    number = number or number_of_views(plan, teacher_pass, stores, split)
    views = sample_views(number, len(split.train), plan.seed, plan.space.augmentation)
    return views, teacher_pass.logits(views, advance=listener.advance)


def _teachers(plan: SearchPlan, pictures: Pictures, clock: PhaseClock, listener: Listener) -> list[Teacher]:
    """Return the teacher that the user has brought, or those of the plan."""
    if plan.teacher_folder is None:
        return [_teacher(plan, recipe, pictures, clock, listener) for recipe in plan.teachers]
    hashes = (pictures.whole.hash, pictures.split.hash)
    return [open_teacher(plan.teacher_folder, classes=pictures.classes, split_hashes=hashes)]


def _teacher(
    plan: SearchPlan, recipe: TeacherRecipe, pictures: Pictures, clock: PhaseClock, listener: Listener
) -> Teacher:
    """Find the teacher of this recipe, or train it; in a quick search on fewer pictures and epochs."""
    hurried, store, split = plan.hurried(recipe), pictures.stores[recipe.image_size], pictures.split
    found = find_teacher(recipe, store.fingerprint, pictures.whole.hash) or find_teacher(
        hurried, store.fingerprint, split.hash
    )
    if found is not None:
        return found
    clock.begin("teacher")
    return train_teacher(
        hurried,
        store,
        split,
        device=torch.device(plan.device),
        on_epoch=lambda result: listener.teacher_epoch(result, hurried),
        advance=listener.advance,
    )
