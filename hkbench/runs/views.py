"""How many views of each picture a search has: as many as its trials use, if the teacher is fast enough."""

import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from hkbench.config import cache_dir, usable_cores
from hkbench.data.augment import ViewTable, sample_views
from hkbench.data.splits import Split
from hkbench.data.store import PictureStore
from hkbench.driver.plan import SearchPlan
from hkbench.runs.timing import epoch_seconds
from hkbench.store.atomic import write_text
from hkbench.store.cache import key_of, read_kept
from hkbench.store.environment import cpu_model
from hkbench.training.logits import TeacherPass

MOST_VIEWS = 20
WORTH_TRIALS = 3.0
"""The teacher's pass over all views may take as long as so many whole trials."""


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
        trials = WORTH_TRIALS * plan.space.schedule.max_epochs * epoch_seconds(plan, stores, split) / at_once
        kept = _Kept(views=max(1, min(most, math.floor(trials / a_view))))
        write_text(path, kept.model_dump_json() + "\n")
    return kept.views


class _Kept(BaseModel):
    """The choice, as the cache keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    views: int = Field(ge=1, le=MOST_VIEWS)


def _path(plan: SearchPlan, teacher_pass: TeacherPass, split: Split) -> Path:
    """Return where the number is kept for this teacher, data, first architecture and processor."""
    first = plan.space.first_settings().architecture.model_dump()
    known = (first, plan.space.schedule.max_epochs, plan.device, plan.concurrency)
    return cache_dir() / "views" / f"number-{key_of(teacher_pass.key, split.hash, known, cpu_model())}.json"


def _table(plan: SearchPlan, split: Split, views: int) -> ViewTable:
    return sample_views(views, len(split.train), plan.seed, plan.space.augmentation)
