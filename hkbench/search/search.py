"""A search from its plan to its measured files, in the order in which things happen."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from hkbench.analysis.trials import losses_of
from hkbench.errors import NoTrialCompletedError, StoppedError
from hkbench.search.alone import run_alone
from hkbench.search.costs import Costs
from hkbench.search.finish import best_student, measure, ship, twin_of, twin_params, weak_teacher
from hkbench.search.plan import SearchPlan, packed
from hkbench.search.prepare import Listener, PhaseClock, Prepared, open_pictures, prepare
from hkbench.search.ray_runtime import check_address, ray_runtime
from hkbench.search.record import held, refuse_foreign, start_record, update_record
from hkbench.search.runner import run_trials
from hkbench.search.scheduler import ParetoHalving
from hkbench.search.session import SearchSession, TrialListener
from hkbench.search.space import Schedule
from hkbench.search.space_checks import check_weights, warnings_of
from hkbench.search.study import Asked, Study
from hkbench.search.trial import Job
from hkbench.store.environment import now
from hkbench.store.records import BenchmarkRecord, ModelRecord, RunRecord
from hkbench.store.rundir import RunDirectory

log = logging.getLogger(__name__)

STUDY_FILE = "study.log"
NAMED_PICTURES = 5


class SearchListener(Listener, TrialListener, Protocol):
    """Who is told of everything."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search leaves behind."""

    run: RunDirectory
    models: list[ModelRecord]
    unmeasured: list[BenchmarkRecord]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Search:
    """The parts of a search that is under way."""

    plan: SearchPlan
    run: RunDirectory
    prepared: Prepared
    job: Job
    study: Study
    session: SearchSession
    listener: SearchListener


def run_search(plan: SearchPlan, listener: SearchListener) -> SearchResult:
    """Run a search, or go on with one that was interrupted.

    Raises:
        UsageError: a run directory in use or of another study, or input that can't be used.
        StoppedError: Ctrl-C or SIGTERM; everything is kept and `--resume` goes on.
        NoTrialCompletedError: no trial came to its end.
    """
    run = RunDirectory(plan.out)
    refuse_foreign(plan, run)
    check_weights(plan.space)
    if plan.address:
        check_address(plan.address)
    with held(run), _sigterm_like_ctrl_c():
        try:
            return _run_locked(plan, run, listener)
        except KeyboardInterrupt:
            raise _stopped(run) from None


@contextmanager
def _sigterm_like_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stopped(run: RunDirectory) -> StoppedError:
    if not run.run_file.is_file():
        return StoppedError(
            "Stopped before the first trial. What was prepared is kept in the cache; go on with the same "
            "command."
        )
    update_record(run, status="interrupted", finished=now())
    return StoppedError(
        f"Stopped. Everything so far is in {run.path}; go on with the same command and --resume."
    )


def _run_locked(plan: SearchPlan, run: RunDirectory, listener: SearchListener) -> SearchResult:
    there = run.read_run() if run.run_file.is_file() else None
    clock = PhaseClock(listener, there.phase_seconds if there else {})
    pictures = open_pictures(plan, clock, listener)
    clock.begin("architectures")
    costs = Costs(plan.space, pictures.classes, "cpu")
    costs.measure(listener.advance)
    costs.refuse_impossible(plan.space.constraints)
    prepared = prepare(plan, pictures, clock, listener, there)
    plan = prepared.plan
    if plan.concurrency is None:
        clock.begin("cores")
        plan = packed(plan, _recorded_packing(there))
    start_record(plan, run, prepared)
    search = _assemble(plan, run, prepared, costs, listener)
    try:
        _train(search, clock)
    finally:
        clock.end()
    update_record(run, phase_seconds=clock.seconds)
    if search.session.interrupted:
        raise _stopped(run)
    if not any(trial.state == "COMPLETE" for trial in run.trials()):
        update_record(run, status="failed", finished=now())
        raise NoTrialCompletedError(_why_nothing(run))
    clock.begin("export")
    unshipped = ship(plan, prepared, search.job, run, listener.advance)
    clock.begin("measure")
    rows = measure(plan, run, listener.advance)
    clock.end()
    models = run.model_records()
    warnings = [
        *_rejections(prepared),
        *weak_teacher(models),
        *unshipped,
        *_untold(search),
        *warnings_of(plan.space),
    ]
    update_record(run, status="finished", finished=now(), phase_seconds=clock.seconds, warnings=warnings)
    return SearchResult(
        run=run,
        models=models,
        unmeasured=[row for row in rows if row.status == "failed"],
        seconds=sum(clock.seconds.values()),
    )


def _recorded_packing(record: RunRecord | None) -> tuple[int, int] | None:
    """Return (trials at once, threads of each) of a search that is resumed."""
    if record is None or not record.config.get("concurrency"):
        return None
    return record.config["concurrency"], record.config["threads"]


def _assemble(
    plan: SearchPlan,
    run: RunDirectory,
    prepared: Prepared,
    costs: Costs,
    listener: SearchListener,
) -> _Search:
    study = Study.open(run.path / STUDY_FILE, plan.space, plan.seed, plan.sampler)
    return _Search(
        plan=plan,
        run=run,
        prepared=prepared,
        study=study,
        listener=listener,
        session=SearchSession(plan, study, run, costs.of, listener),
        job=Job(
            shared=prepared.shared,
            checkpoints=(run.path / "checkpoints").resolve(),
            max_epochs=plan.space.schedule.max_epochs,
            seed=plan.seed,
            threads=plan.threads,
            device=plan.device,
            on_cluster=plan.address is not None,
        ),
    )


def _train(search: _Search, clock: PhaseClock) -> None:
    """Run the trials and then, alone, the twin of the best student without a teacher."""
    ray_files = search.run.path / "ray"
    clock.begin(search.plan.kind)
    if search.plan.kind == "train":
        run_alone(search.session, search.job, search.listener.advance)
        return
    with ray_runtime(search.plan):
        search.session.start_clock(search.plan.budget_s)
        run_trials(search.plan, search.session, search.job, _rule(search), ray_files)
        if search.session.interrupted or search.plan.quick:
            return
        twin = _missing_twin(search)
        if twin is not None:
            clock.begin("twin without teacher")
            search.session.insist(twin)
            search.session.start_clock(None)
            run_trials(search.plan, search.session, search.job, _never_stopping(search), ray_files)


def _rule(search: _Search) -> ParetoHalving:
    """Return the halving rule, told of the epochs that are on record already."""
    rule = ParetoHalving(search.plan.space.schedule)
    ended = {trial.number: trial.values for trial in search.run.trials()}
    for row in search.run.epochs():
        if isinstance(row.trial, int) and row.trial in ended:
            values = {**ended[row.trial], **row.metrics}
            rule.goes_on(row.trial, row.epoch, losses_of(values, search.plan.space.objectives))
    return rule


def _never_stopping(search: _Search) -> ParetoHalving:
    epochs = search.plan.space.schedule.max_epochs
    return ParetoHalving(Schedule(max_epochs=epochs, grace=epochs))


def _missing_twin(search: _Search) -> Asked | None:
    """Ask for the twin of the best student, unless it was trained to the end already or can't be."""
    trials, space = search.run.trials(), search.plan.space
    student = best_student(trials)
    params = None if student is None else twin_params(student, space)
    if student is None or params is None or twin_of(student, space, trials) is not None:
        return None
    return search.study.insist(params, student.number, f"twin of {student.number} without a teacher")


def _why_nothing(run: RunDirectory) -> str:
    reasons = [trial.reason for trial in run.trials() if trial.reason]
    last = f" The last one: {reasons[-1].rstrip('.')}." if reasons else ""
    record = run.read_run()
    took = timedelta(seconds=round(sum(record.phase_seconds.values())))
    advice = "" if record.kind == "train" else " Give the search more --budget, or fewer --epochs."
    return f"No trial came to its end in {took}.{last}{advice}"


def _rejections(prepared: Prepared) -> list[str]:
    """Name the pictures that were left out."""
    rejected = prepared.data_record().rejected
    if not rejected:
        return []
    named = ", ".join(f"{name} ({reason})" for name, reason in rejected[:NAMED_PICTURES])
    more = " and more, listed in run.json" if len(rejected) > NAMED_PICTURES else ""
    what = "1 picture" if len(rejected) == 1 else f"{len(rejected)} pictures"
    return [f"Left out {what} that can't be used: {named}{more}."]


def _untold(search: _Search) -> list[str]:
    """Say what the search could not do as asked."""
    said = []
    if search.session.exhausted:
        said.append("The space holds no point that was not tried: the search ended before its trials did.")
    student = best_student(search.run.trials())
    if (
        search.plan.kind == "search"
        and student is not None
        and twin_params(student, search.plan.space) is None
    ):
        said.append("The space doesn't let loss be 'hard', so no twin without a teacher was trained.")
    return said
