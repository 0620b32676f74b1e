"""A search from what its user says: the flags of `hkbench search`, and the arguments of `hkbench.search`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hkbench.driver import plan as plans
from hkbench.driver.budget import parse_duration
from hkbench.errors import UsageError
from hkbench.runs.extend import asked_for
from hkbench.spaces.file import load_space
from hkbench.spaces.space import Space
from hkbench.study.storage import places_of


def planned(
    space: str | Path | Space,
    data: str,
    *,
    out: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    trials: str | None = None,
    epochs: int | None = None,
    budget: str | None = None,
    sampler: str | None = None,
    group_by: str | None = None,
    split: str = "random",
    seed: int = 0,
    views: int | None = None,
    train_pictures: int | None = None,
    confirm: int = 0,
    confirm_seeds: int = 3,
    device: str = "cpu",
    teacher: str | None = None,
    costs: str | Path | None = None,
    max_concurrent: int | None = None,
    max_failures: int = 2,
    epoch_limit: str | None = None,
    address: str | None = None,
    storage: str | Sequence[str] = (),
    logs: str | Sequence[str] = (),
    quick: bool = False,
    resume: bool = False,
    command: Sequence[str] = (),
) -> plans.SearchPlan:
    """Return the plan of a search; the arguments are the flags of `hkbench search`, which its help explains.

    Args:
        space: a shipped space by name, a YAML file, or a space that is loaded.
        data: goods69, or a folder with one folder for each class.
        overrides: keys of the space and their values, as `--set` takes them; not of a loaded one.
        command: what the run directory keeps as the command.

    Raises:
        UsageError: what can't be used, with what was expected.
    """
    changes = dict(plans.QUICK if quick else {}) | dict(overrides or {})
    if epochs is not None:
        changes["schedule.max_epochs"] = str(epochs)
    teacher_folder = plans.folder_of(teacher)
    if teacher is not None and teacher_folder is None:
        changes["teacher.model"] = teacher
    if isinstance(space, Space) and changes:
        raise UsageError(
            f"A space that is loaded is taken as it is: {', '.join(changes)} can't be set. Give its name "
            "or its file."
        )
    loaded = space if isinstance(space, Space) else load_space(str(space), changes)
    plans.check_device(device)
    plan = plans.SearchPlan(
        space=loaded,
        teacher_folder=teacher_folder,
        costs=Path(costs) if costs is not None else None,
        out=out or plans.default_run(f"{loaded.name}-quick" if quick else loaded.name, resume=resume),
        data=data,
        group_by=group_by,
        split=split,
        seed=seed,
        pictures=train_pictures,
        views=views or (plans.QUICK_VIEWS if quick else None),
        confirm=confirm,
        confirm_seeds=confirm_seeds,
        concurrency=max_concurrent,
        threads=plans.threads_beside(max_concurrent, device) if max_concurrent else 1,
        max_failures=max_failures,
        epoch_limit_s=parse_duration(epoch_limit) if epoch_limit is not None else None,
        device=device,
        gpu_share=1.0 if device == "cuda" else 0.0,
        address=address,
        storage=places_of(_each(storage)),
        logs=tuple(_each(logs)),
        resume=resume,
        quick=quick,
        command=tuple(command),
    )
    return asked_for(plan, trials=trials, budget=budget, sampler=sampler)


def _each(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)
