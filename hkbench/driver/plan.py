"""What a search is asked to do, once flags, space and defaults have been put together."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hkbench.benchmark.devices import Missing, find, parse_device
from hkbench.benchmark.packing import best_packing
from hkbench.config import usable_cores
from hkbench.data.splits import SCHEMES, SPLIT_SEED
from hkbench.driver.budget import Budget
from hkbench.errors import UsageError, unknown
from hkbench.spaces.space import Space
from hkbench.store.records import RunRecord
from hkbench.study.storage import Places
from hkbench.training.teacher import TeacherRecipe

QUICK = {"schedule.trials": "4", "schedule.max_epochs": "2"}
"""What `--quick` sets in a space, unless a flag says otherwise."""
LOGS = {"tensorboard": "tensorboard", "mlflow": "mlflow.db"}
"""What `--log` takes → what it is called in the run directory."""
QUICK_VIEWS = 1
QUICK_TRAIN_PICTURES = 2000
QUICK_TEACHER_EPOCHS = 2


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """A search, ready to run; times in seconds. A quick one has fewer pictures and no twin.

    `views` is the number of views of each picture, `concurrency` that of trials at once, each with `threads`
    threads; None lets the search choose them, by measuring this machine. A plan of the kind `train` has one
    trial, which is trained in this process; with `fitted_s` its number of epochs is chosen to take so long.
    `pictures` cuts the train part down to so many. A trial that loses its worker is taken up again up to
    `max_failures` times; one epoch may take `epoch_limit_s`, None for what is learned from others.
    The `confirm` best trials of the frontier are trained again from `confirm_seeds` fresh seeds each.
    `logs` names where else trials are logged, of `LOGS`.
    `teacher_folder` is a teacher that is there, in place of the space's own; `costs` a file of what wrong
    answers cost.
    """

    space: Space
    out: Path
    kind: Literal["search", "train"] = "search"
    teacher_folder: Path | None = None
    costs: Path | None = None
    fitted_s: float | None = None
    data: str = "goods69"
    group_by: str | None = None
    split: str = "random"
    split_seed: int = SPLIT_SEED
    seed: int = 0
    views: int | None = None
    budget: Budget | None = None
    sampler: str = "tpe"
    pictures: int | None = None
    concurrency: int | None = 1
    threads: int = 1
    max_failures: int = 2
    epoch_limit_s: float | None = None
    confirm: int = 0
    confirm_seeds: int = 3
    device: str = "cpu"
    gpu_share: float = 0.0
    quick: bool = False
    address: str | None = None
    storage: Places = field(default_factory=Places)
    logs: tuple[str, ...] = ()
    resume: bool = False
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.split not in SCHEMES:
            raise unknown("split scheme", self.split, SCHEMES)
        for name in self.logs:
            if name not in LOGS:
                raise unknown("log", name, LOGS)
        if self.teacher_folder is not None and self.space.more_teachers:
            raise UsageError("A teacher's folder can't be joined by the space's more_teachers.")
        if self.teacher_folder is not None and not self.space.may_need_teacher():
            raise UsageError(f"{self.space.name} has no loss that reads a teacher: leave --teacher out.")
        in_gpu_seconds = self.budget is not None and self.budget.unit == "gpu_seconds"
        if self.device == "cpu" and in_gpu_seconds:
            raise UsageError(
                f"A budget of {self.budget} needs --device cuda: trials on the CPU take no seconds of a GPU. "
                "Give one in time or epochs."
            )
        if self.device == "cpu" and self.space.schedule.unit == "gpu_seconds":
            raise UsageError("schedule.unit gpu_seconds needs --device cuda: take epochs or seconds.")

    @property
    def train_pictures(self) -> int | None:
        """How much of the train part is used; None is all."""
        return self.pictures or (QUICK_TRAIN_PICTURES if self.quick else None)

    @property
    def teachers(self) -> list[TeacherRecipe]:
        """The teachers to find or to train, the one that students are compared with first.

        None where no trial reads a teacher, or where the user has brought one.
        """
        if self.teacher_folder is not None or not self.space.may_need_teacher():
            return []
        return [self.space.teacher, *self.space.more_teachers]

    def hurried(self, recipe: TeacherRecipe) -> TeacherRecipe:
        """Return how a teacher is trained where there is none yet: cut short in a quick search."""
        return recipe.model_copy(update={"max_epochs": QUICK_TEACHER_EPOCHS}) if self.quick else recipe

    def described(self) -> dict[str, Any]:
        """Return what decides a search's results, as `run.json` keeps it and `--resume` compares it."""
        return {
            "space": self.space.model_dump(mode="json"),
            "teacher_folder": str(self.teacher_folder) if self.teacher_folder is not None else None,
            "fitted_s": self.fitted_s,
            "costs": self.costs.read_text(encoding="utf-8") if self.costs is not None else None,
            "data": self.data,
            "group_by": self.group_by,
            "split": self.split,
            "split_seed": self.split_seed,
            "seed": self.seed,
            "views": self.views,
            "train_pictures": self.pictures,
            "sampler": self.sampler,
            "quick": self.quick,
            "budget": str(self.budget) if self.budget is not None else None,
            "concurrency": self.concurrency,
            "threads": self.threads,
            "device": self.device,
        }


def packed(plan: SearchPlan, recorded: tuple[int, int] | None = None) -> SearchPlan:
    """Return the plan with its number of trials at once, chosen for this machine where that is left open.

    The measurement is made once and kept, see `benchmark.packing`; a quick search takes what is there. How
    many trials share a GPU is `runs.gpus`' to say. A search that is resumed goes on as it is `recorded`: with
    other threads, sums would be rounded otherwise.
    """
    if plan.concurrency is not None:
        return plan
    workers, threads = recorded or best_packing(plan.device, cached_only=plan.quick)
    return replace(plan, concurrency=min(workers, plan.space.schedule.trials), threads=threads)


def threads_beside(concurrency: int, device: str) -> int:
    """Return the threads of each of so many trials at once: on a CPU they share its cores."""
    return max(1, usable_cores() // concurrency) if device == "cpu" else usable_cores()


def folder_of(teacher: str | None) -> Path | None:
    """Return the folder that `--teacher` names; None if it names a network, or nothing."""
    return Path(teacher) if teacher is not None and Path(teacher).is_dir() else None


def as_recorded(plan: SearchPlan, record: RunRecord) -> SearchPlan:
    """Return the plan of a training that is resumed with the epochs that its budget gave it at first."""
    if plan.fitted_s is None:
        return plan
    epochs = record.config["space"]["schedule"]["max_epochs"]
    return with_epochs(plan, epochs)


def with_epochs(plan: SearchPlan, epochs: int) -> SearchPlan:
    """Return the plan with another number of epochs, all of which every trial trains."""
    schedule = plan.space.schedule.model_copy(update={"max_epochs": epochs, "grace": epochs})
    return replace(plan, space=plan.space.model_copy(update={"schedule": schedule}))


def default_run(name: str, *, resume: bool, results: Path = Path("results")) -> Path:
    """Return `results/<name>`, or `<name>-2` and so on where it is taken; with `resume` the newest of them.

    Raises:
        UsageError: there is none to resume.
    """
    taken = [
        path for path in results.glob(f"{name}*") if re.fullmatch(rf"{re.escape(name)}(-\d+)?", path.name)
    ]
    if resume:
        runs = [path for path in taken if (path / "run.json").is_file()]
        if not runs:
            raise UsageError(f"There is no search to resume at {results / name}. Name its folder with --out.")
        return max(runs, key=lambda path: (path / "run.json").stat().st_mtime)
    number = 1
    while (found := results / (name if number == 1 else f"{name}-{number}")) in taken:
        number += 1
    return found


def check_device(name: str) -> None:
    """Refuse to plan for a device that isn't here.

    Raises:
        UsageError: `name` is no device, none of this machine's, or one of several by its index.
    """
    device = parse_device(name)
    if device.index or ":" in name:
        raise UsageError(f"Ray gives each trial a GPU of its own: write cuda, not {name}.")
    found = find(device)
    if isinstance(found, Missing):
        raise UsageError(f"Trials can't train on {name}: {found.reason}.")
