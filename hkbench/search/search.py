"""A search from its plan to its measured files, in the order in which things happen."""

import logging
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from hkbench.errors import NoTrialCompletedError, StoppedError, UsageError
from hkbench.search.costs import Architecture, ArchitectureCost, measure_costs
from hkbench.search.finish import best_student, losses_of, measure, ship, twin_params, weak_teacher
from hkbench.search.plan import SearchPlan
from hkbench.search.prepare import Listener, PhaseClock, Prepared, prepare
from hkbench.search.runner import ray_runtime, run_trials
from hkbench.search.scheduler import ParetoHalving
from hkbench.search.session import SearchSession, TrialListener
from hkbench.search.space import Schedule
from hkbench.search.study import Study
from hkbench.search.trial import Job
from hkbench.store.environment import git_state, hardware, now, versions
from hkbench.store.records import ModelRecord, RunRecord
from hkbench.store.rundir import RunDirectory

log = logging.getLogger(__name__)

STUDY_FILE = "study.log"


class SearchListener(Listener, TrialListener, Protocol):
    """Who is told of everything."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search leaves behind."""

    run: RunDirectory
    models: list[ModelRecord]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Search:
    """The parts of a search that is under way."""

    plan: SearchPlan
    run: RunDirectory
    prepared: Prepared
    costs: dict[Architecture, ArchitectureCost]
    job: Job
    study: Study
    session: SearchSession


def run_search(plan: SearchPlan, listener: SearchListener) -> SearchResult:
    """Run a search, or go on with one that was interrupted.

    Raises:
        UsageError: a run directory in use or of another study, or input that can't be used.
        StoppedError: Ctrl-C; everything is kept and `--resume` goes on.
        NoTrialCompletedError: no trial came to its end.
    """
    run = RunDirectory(plan.out)
    _refuse_foreign(plan, run)
    run.path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run.path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"Another hkbench search is writing to {run.path}. Give --out another name."
        ) from None
    try:
        return _run_locked(plan, run, listener)
    finally:
        lock.release()


def _run_locked(plan: SearchPlan, run: RunDirectory, listener: SearchListener) -> SearchResult:
    clock = PhaseClock(listener)
    prepared = prepare(plan, clock, listener)
    _start_record(plan, run, prepared)
    clock.begin("architectures")
    costs = measure_costs(plan.space.architectures(), prepared.shared.classes, "cpu", listener.advance)
    search = _assemble(plan, run, prepared, costs, listener)
    try:
        _train(search, clock)
    finally:
        clock.end()
    _update(run, phase_seconds=clock.seconds)
    if search.session.interrupted:
        _update(run, status="interrupted", finished=now())
        raise StoppedError(
            f"Stopped. Everything so far is in {run.path}; go on with the same command and --resume."
        )
    if not any(trial.state == "COMPLETE" for trial in run.trials()):
        _update(run, status="failed", finished=now())
        raise NoTrialCompletedError(_why_nothing(run))
    clock.begin("export")
    models = ship(plan, prepared, search.job, run, listener.advance)
    clock.begin("measure")
    measure(plan, run, listener.advance)
    clock.end()
    _update(
        run, status="finished", finished=now(), phase_seconds=clock.seconds, warnings=weak_teacher(models)
    )
    return SearchResult(run=run, models=models, seconds=sum(clock.seconds.values()))


def _assemble(
    plan: SearchPlan,
    run: RunDirectory,
    prepared: Prepared,
    costs: dict[Architecture, ArchitectureCost],
    listener: SearchListener,
) -> _Search:
    study = Study.open(run.path / STUDY_FILE, plan.space, plan.seed)
    return _Search(
        plan=plan,
        run=run,
        prepared=prepared,
        costs=costs,
        study=study,
        session=SearchSession(plan, study, run, costs, listener),
        job=Job(
            shared=prepared.shared,
            checkpoints=(run.path / "checkpoints").resolve(),
            max_epochs=plan.space.schedule.max_epochs,
            seed=plan.seed,
            threads=plan.threads,
            device=plan.device,
        ),
    )


def _train(search: _Search, clock: PhaseClock) -> None:
    """Run the trials and then, alone, the twin of the best student without a teacher."""
    ray_files = search.run.path / "ray"
    clock.begin("search")
    with ray_runtime(search.plan):
        search.session.start_clock(search.plan.budget_s)
        run_trials(search.plan, search.session, search.job, _rule(search), ray_files)
        if search.session.interrupted or not search.plan.twin:
            return
        twin = _missing_twin(search)
        if twin is not None:
            clock.begin("twin without teacher")
            search.study.enqueue(*twin)
            search.session.start_clock(None)
            search.session.allow(1)
            run_trials(search.plan, search.session, search.job, _never_stopping(search), ray_files)


def _rule(search: _Search) -> ParetoHalving:
    """Return the halving rule, told of the epochs that are on record already."""
    rule = ParetoHalving(search.plan.space.schedule)
    objectives: dict[str, str] = dict(search.plan.space.objectives)
    architectures = {trial.number: (trial.model, trial.image_size) for trial in search.run.trials()}
    for row in search.run.epochs():
        if isinstance(row.trial, int) and row.trial in architectures:
            cost = search.costs[architectures[row.trial]]
            rule.goes_on(row.trial, row.epoch, losses_of({**row.metrics, **cost.objectives()}, objectives))
    return rule


def _never_stopping(search: _Search) -> ParetoHalving:
    epochs = search.plan.space.schedule.max_epochs
    return ParetoHalving(Schedule(max_epochs=epochs, grace=epochs))


def _missing_twin(search: _Search) -> tuple[dict[str, object], str] | None:
    """Return the twin of the best student and its name, unless it was trained to the end already."""
    trials = search.run.trials()
    student = best_student(trials)
    if student is None or "loss" not in search.plan.space.parameters:
        return None
    params = twin_params(student)
    if any(trial.params == params and trial.state == "COMPLETE" for trial in trials):
        return None
    return params, f"twin of {student.number} without a teacher"


def _refuse_foreign(plan: SearchPlan, run: RunDirectory) -> None:
    """Refuse a run directory that is there without --resume, or is another study's with it."""
    if not run.run_file.is_file():
        if plan.resume:
            raise UsageError(f"{run.path} holds no search to resume.")
        if run.path.is_dir() and any(run.path.iterdir()):
            raise UsageError(f"{run.path} is not empty and no run directory. Give --out another name.")
        return
    if not plan.resume:
        raise UsageError(
            f"{run.path} holds a search already. Go on with it by --resume, or give --out another name."
        )
    there, wanted = run.read_run().config, plan.described()
    free = {"budget_s", "concurrency", "threads"}
    other = [name for name in wanted if name not in free and there.get(name) != wanted[name]]
    if other:
        found = "; ".join(f"{name} is {there.get(name)}, asked for {wanted[name]}" for name in other)
        raise UsageError(f"{run.path} is another study's: {found}.")


def _start_record(plan: SearchPlan, run: RunDirectory, prepared: Prepared) -> None:
    data = prepared.data_record()
    if run.run_file.is_file():
        there = run.read_run().data
        if there is not None and (there.fingerprint, there.split.hash) != (data.fingerprint, data.split.hash):
            raise UsageError(
                f"{run.path} was made with other pictures or another split; they have changed since."
            )
        _update(run, status="running")
        return
    run.write_run(
        RunRecord.model_validate(
            {
                "name": run.path.name,
                "kind": "search",
                "command": list(plan.command),
                "created": now(),
                "config": plan.described(),
                "objectives": dict(plan.space.objectives),
                "data": data,
                "versions": versions(),
                "hardware": hardware(),
                "git": git_state(Path(__file__).parent),
            }
        )
    )
    for epoch in prepared.teacher.record.epochs:
        run.append(epoch)


def _update(run: RunDirectory, **changes: object) -> None:
    there = run.read_run()
    if "phase_seconds" in changes:
        ended = dict(there.phase_seconds)
        changes["phase_seconds"] = {**ended, **dict(changes["phase_seconds"])}  # type: ignore[call-overload]
    run.write_run(there.model_copy(update=changes))


def _why_nothing(run: RunDirectory) -> str:
    reasons = [trial.reason for trial in run.trials() if trial.reason]
    last = f" The last one: {reasons[-1]}." if reasons else ""
    took = timedelta(seconds=round(sum(run.read_run().phase_seconds.values())))
    return f"No trial came to its end in {took}.{last} Give the search more --budget, or fewer --epochs."
