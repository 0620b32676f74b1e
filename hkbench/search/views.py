"""How many views of each picture a search has: as many as its trials use, if the teacher is fast enough."""

import math
import time
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field

from hkbench.config import cache_dir, usable_cores
from hkbench.data.augment import ViewTable, sample_views
from hkbench.data.splits import Split
from hkbench.data.store import PictureStore
from hkbench.models.registry import build
from hkbench.search.plan import SearchPlan
from hkbench.store.atomic import write_text
from hkbench.store.cache import key_of, read_kept
from hkbench.store.environment import cpu_model
from hkbench.training.ahead import torch_threads
from hkbench.training.feed import TrainingData
from hkbench.training.logits import TeacherPass
from hkbench.training.loop import Training, TrainingConfig

MOST_VIEWS = 20
WORTH_TRIALS = 3.0
"""The teacher's pass over all views may take as long as so many whole trials."""
TIMED_PICTURES = 384


def number_of_views(
    plan: SearchPlan, teacher_pass: TeacherPass, stores: dict[int, PictureStore], split: Split
) -> int:
    """Choose the number of views, 1 to `MOST_VIEWS`, by timing the teacher and a student on this machine.

    A trial of E epochs sees E views of each picture, so more than that are never looked at.
    """
    most = min(MOST_VIEWS, plan.space.schedule.max_epochs)
    if most == 1 or teacher_pass.has(_table(plan, split, most)):
        return most
    path = _path(plan, teacher_pass, split)
    kept = read_kept(path, _Kept)  # or the next search with the same seed might have another number
    if kept is None:
        a_view = teacher_pass.seconds_a_view(_table(plan, split, 1))
        at_once = plan.concurrency or (usable_cores() if plan.device == "cpu" else 1)
        trials = WORTH_TRIALS * _trial_seconds(plan, stores, split) / at_once
        kept = _Kept(views=max(1, min(most, math.floor(trials / a_view))))
        write_text(path, kept.model_dump_json() + "\n")
    return kept.views


class _Kept(BaseModel):
    """The choice, as the cache keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    views: int = Field(ge=1, le=MOST_VIEWS)


def _path(plan: SearchPlan, teacher_pass: TeacherPass, split: Split) -> Path:
    """Return where the number is kept for this teacher, data, first architecture and processor."""
    known = (*plan.space.architectures()[0], plan.space.schedule.max_epochs, plan.device, plan.concurrency)
    return cache_dir() / "views" / f"number-{key_of(teacher_pass.key, split.hash, known, cpu_model())}.json"


def _table(plan: SearchPlan, split: Split, views: int) -> ViewTable:
    return sample_views(views, len(split.train), plan.seed, plan.space.augmentation)


def _trial_seconds(plan: SearchPlan, stores: dict[int, PictureStore], split: Split) -> float:
    """Time some steps of the space's first architecture and return what a whole trial of it takes."""
    model, size, frozen_body = plan.space.architectures()[0]
    store, timed = stores[size], split.train[:TIMED_PICTURES]
    data = TrainingData(
        pictures=store.pictures,
        labels=store.labels,
        train=timed,
        validation=split.validation,
        views=_table(plan, split, 1).parameters,
    )
    network = build(model, classes=len(store.classes), frozen_body=frozen_body, seed=0)
    training = Training(network, data, TrainingConfig(epochs=2), torch.device(plan.device))
    with torch_threads(plan.threads):
        training.train_epoch()  # the first steps prepare
        started = time.perf_counter()
        training.train_epoch()
        seconds = time.perf_counter() - started
    return seconds / len(timed) * len(split.train) * plan.space.schedule.max_epochs
