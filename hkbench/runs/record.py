"""Whose a run directory is: which ones a search refuses, and what it writes of itself in `run.json`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hkbench.driver.plan import SearchPlan
from hkbench.errors import UsageError
from hkbench.runs.prepare import Prepared
from hkbench.spaces.space import Space
from hkbench.store import atomic
from hkbench.store.environment import git_state, hardware, now, versions
from hkbench.store.records import DataRecord, RunRecord, RunStart
from hkbench.store.rundir import RunDirectory
from hkbench.study.narrowing import differences

LOCK = ".lock"
FREE = (
    "budget",
    "budget_s",
    "concurrency",
    "threads",
    "sampler",
    "space.about",
    "space.schedule.budget",
    "space.schedule.trials",
)
FITTED = ("space.schedule.max_epochs", "space.schedule.grace")
COMPARED_APART = ("space.parameters.", "space.start_with")
"""What may differ from the run's record when it is resumed: how long and how wide, not what. The second are
what a training chose by its budget; of the third, a narrower space is no other one."""
UNSAID = ("budget_s", "threads", "space.about", "space.schedule.budget")
"""Changes that follow from others."""


def refuse_foreign(plan: SearchPlan, run: RunDirectory) -> list[str]:
    """Refuse a run directory that is there without --resume, or is another study's with it.

    Returned are the changes to what the run was asked for before: none for a new one.

    Raises:
        UsageError: says which, and for another study how it differs.
    """
    if not run.run_file.is_file():
        if plan.resume:
            raise UsageError(f"{run.path} holds no search to resume.")
        if run.path.is_dir() and not _is_bare(run):
            raise UsageError(f"{run.path} is not empty and no run directory. Give --out another name.")
        return []
    if not plan.resume:
        raise UsageError(
            f"{run.path} holds a search already. Go on with it by --resume, or give --out another name."
        )
    record = run.read_run()
    space = Space.model_validate(record.config["space"])  # with what older versions didn't write
    there = _flat({**record.config, "space": space.model_dump(mode="json")})
    wanted = _flat(plan.described())
    free = FREE if plan.fitted_s is None else FREE + FITTED
    changed = [
        name
        for name in sorted(there.keys() | wanted.keys())
        if there.get(name) != wanted.get(name) and not name.startswith(COMPARED_APART)
    ]
    narrower, other = differences(space, plan.space)
    other = [
        *(
            f"{name} is {there.get(name)}, asked for {wanted.get(name)}"
            for name in changed
            if name not in free
        ),
        *other,
    ]
    if list(space.objectives) != list(plan.space.objectives):
        other.append(
            f"the objectives' order is {list(space.objectives)}, asked for {list(plan.space.objectives)}"
        )
    if other:
        raise UsageError(f"{run.path} is another study's: {'; '.join(other)}.")
    said = [name for name in changed if name in free and name not in UNSAID and wanted.get(name) is not None]
    return [*(f"{name}: {there.get(name)} → {wanted.get(name)}" for name in said), *narrower]


def _flat(config: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Return nested keys as dotted names, so that a difference is shown alone."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return found


@contextmanager
def held(run: RunDirectory) -> Iterator[None]:
    """Keep other searches out of a run directory; leave none behind if nothing came to be written.

    Raises:
        UsageError: another search has it.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run.path / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"Another hkbench search is writing to {run.path}. Give --out another name."
        ) from None
    try:
        yield
    finally:
        if _is_bare(run):
            for path in run.path.iterdir():
                path.unlink()
            run.path.rmdir()
        lock.release()


def _is_bare(run: RunDirectory) -> bool:
    """Whether there is nothing but the lock, and what a kill left of a first write."""
    return all(path.name == LOCK or atomic.is_unfinished(path) for path in run.path.iterdir())


def start_record(
    plan: SearchPlan, run: RunDirectory, prepared: Prepared, changes: Sequence[str] = ()
) -> None:
    """Write `run.json` for a new search; for one that is resumed, check that its pictures are the same.

    Raises:
        UsageError: other pictures, or another split.
    """
    start = RunStart(started=now(), command=list(plan.command), changes=list(changes))
    if run.run_file.is_file():
        _go_on(plan, run, prepared.data_record(), start)
        return
    run.write_run(
        RunRecord.model_validate(
            {
                "name": run.path.name,
                "kind": plan.kind,
                "command": list(plan.command),
                "created": now(),
                "config": plan.described(),
                "objectives": dict(plan.space.objectives),
                "data": prepared.data_record(),
                "versions": versions(),
                "hardware": hardware(),
                "git": git_state(Path(__file__).parent),
                "history": [start],
            }
        )
    )
    for teacher in prepared.teachers[:1]:
        for epoch in teacher.record.epochs:
            run.append(epoch)


def _go_on(plan: SearchPlan, run: RunDirectory, data: DataRecord, start: RunStart) -> None:
    record = run.read_run()
    there, said = record.data, []
    if there is not None:
        said = [
            f"the {name}'s hash was {before[:12]}, now {after[:12]}"
            for name, before, after in (
                ("pictures", there.fingerprint, data.fingerprint),
                ("split", there.split.hash, data.split.hash),
            )
            if before != after
        ]
        said += [f"{there.pictures} pictures, now {data.pictures}"] if there.pictures != data.pictures else []
    if said:
        raise UsageError(
            f"{run.path} was made with other pictures or another split; they have changed since: "
            f"{'; '.join(said)}. Give --out another name."
        )
    if there is not None and there.teachers and there.teachers != data.teachers:
        raise UsageError(
            f"{run.path} was made with another teacher: its weights are gone from the cache, and what "
            "was trained in their place is not the same. Give --out another name."
        )
    now_at = versions()
    upgrades = [
        f"{name}: {record.versions.get(name)} → {version}"
        for name, version in now_at.items()
        if record.versions.get(name) != version
    ]
    start = start.model_copy(update={"changes": [*start.changes, *upgrades]})
    update_record(
        run,
        status="running",
        config=plan.described(),
        command=list(plan.command),
        history=[*record.history, start],
    )


def update_record(run: RunDirectory, **changes: object) -> None:
    """Replace some of what `run.json` says."""
    run.write_run(run.read_run().model_copy(update=changes))
