"""A search from its plan to its measured files, in the order in which things happen."""

import logging
from contextlib import suppress
from dataclasses import dataclass, replace

from hkbench.driver.logs import check_logs
from hkbench.driver.plan import SearchPlan, packed
from hkbench.driver.ray_runtime import check_address
from hkbench.driver.signals import sigterm_like_ctrl_c
from hkbench.errors import HkbenchError, NoTrialCompletedError, StoppedError
from hkbench.runs.extend import is_more
from hkbench.runs.findings import find_out
from hkbench.runs.finish import chosen_trials, measure, ship, weak_teacher
from hkbench.runs.gpus import trials_on_gpus
from hkbench.runs.parts import Search, SearchListener, assemble, train, unconfirmed
from hkbench.runs.prepare import PhaseClock, Prepared, open_pictures, prepare
from hkbench.runs.record import held, refuse_foreign, start_record, update_record
from hkbench.runs.retire import retire
from hkbench.runs.said import rejections, untold, why_nothing
from hkbench.spaces.checks import check_weights, warnings_of
from hkbench.store.environment import now
from hkbench.store.records import BenchmarkRecord, ModelRecord, RunRecord
from hkbench.store.rundir import RunDirectory
from hkbench.study.costs import Costs
from hkbench.study.storage import check_places
from hkbench.trials.failures import ALIKE

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search leaves behind; `nothing_to_do` says that it was finished before, and nothing was made."""

    run: RunDirectory
    models: list[ModelRecord]
    unmeasured: list[BenchmarkRecord]
    seconds: float
    nothing_to_do: bool = False


def run_search(plan: SearchPlan, listener: SearchListener) -> SearchResult:
    """Run a search, or go on with one that was interrupted.

    Raises:
        UsageError: a run directory in use or of another study, or input that can't be used.
        HkbenchError: storage or Ray was lost; what is on record is kept and `--resume` goes on.
        StoppedError: Ctrl-C or SIGTERM; everything is kept and `--resume` goes on.
        NoTrialCompletedError: no trial came to its end.
    """
    run = RunDirectory(plan.out)
    changes = refuse_foreign(plan, run)
    check_weights(plan.space)
    if plan.address:
        check_address(plan.address)
    check_places(plan.storage)
    check_logs(plan.logs)
    with held(run), sigterm_like_ctrl_c():
        if plan.resume and not changes and _is_finished(plan, run):
            return SearchResult(
                run=run, models=run.model_records(), unmeasured=[], seconds=0.0, nothing_to_do=True
            )
        try:
            return _run_locked(plan, run, changes, listener)
        except KeyboardInterrupt:
            raise _stopped(plan, run) from None
        except NoTrialCompletedError:
            raise
        except HkbenchError:
            _note_interrupted(run)
            raise


def _is_finished(plan: SearchPlan, run: RunDirectory) -> bool:
    """Whether a search has come to its end, nothing is to be confirmed, and all that it shipped is there."""
    models = run.model_records()
    shipped = bool(models) and all(map(run.holds, models))
    return run.read_run().status == "finished" and shipped and not unconfirmed(plan, run)


def _note_interrupted(run: RunDirectory) -> None:
    """Note that a search has ended early, where that can be written."""
    with suppress(HkbenchError, OSError):
        if run.run_file.is_file():
            update_record(run, status="interrupted", finished=now())


def _stopped(plan: SearchPlan, run: RunDirectory) -> StoppedError:
    if not run.run_file.is_file():
        return StoppedError(
            "Stopped before the first trial. What was prepared is kept in the cache; go on with the same "
            "command."
        )
    update_record(run, status="interrupted", finished=now())
    added = any(is_more(text) for text in plan.command)
    without = ", but without what it adds: that is kept" if added else ""
    return StoppedError(
        f"Stopped. Everything so far is in {run.path}; go on with the same command and --resume{without}."
    )


def _run_locked(
    plan: SearchPlan, run: RunDirectory, changes: list[str], listener: SearchListener
) -> SearchResult:
    there = run.read_run() if run.run_file.is_file() else None
    clock = PhaseClock(listener, there.phase_seconds if there else {})
    pictures = open_pictures(plan, clock, listener)
    clock.begin("architectures")
    costs = Costs(plan.space, pictures.classes, "cpu")
    costs.measure(listener.advance)
    costs.refuse_impossible(costs.limits)
    prepared = prepare(plan, pictures, clock, listener, there)
    plan = prepared.plan
    if plan.concurrency is None and plan.address is None:  # a cluster's room is asked for as it goes
        clock.begin("cores")
        plan = packed(plan, _recorded_packing(there) or trials_on_gpus(plan.device))
    start_record(plan, run, prepared, changes)
    search = assemble(_with_limits(plan, prepared, costs), run, prepared, costs, listener)
    if there is not None and there.status == "failed":
        search.session.try_failed_again()
    try:
        train(search, clock)
    finally:
        clock.end()
    update_record(run, phase_seconds=clock.seconds)
    if search.session.interrupted:
        raise _stopped(plan, run)
    _refuse_without_trials(search)
    return _finish(search, clock)


def _with_limits(plan: SearchPlan, prepared: Prepared, costs: Costs) -> SearchPlan:
    """Return the plan with plain limits, where they follow the teacher."""
    if not plan.space.needs_teacher_values():
        return plan
    teacher = prepared.teachers[0].record
    values = {**teacher.validation, **costs.of(teacher.structure).objectives()}
    space = plan.space.resolved(values)
    costs.limits = space.constraints
    costs.refuse_impossible(space.constraints)
    return replace(plan, space=space)


def _refuse_without_trials(search: Search) -> None:
    run, hopeless = search.run, search.session.hopeless
    if hopeless is not None:
        update_record(run, status="failed", finished=now())
        raise NoTrialCompletedError(
            f"The first {ALIKE} trials failed, all for the same reason: {hopeless.rstrip('.')}. The search "
            "stops here. Once that is mended, --resume goes on, and tries these points again."
        )
    if not any(trial.state == "COMPLETE" for trial in run.trials()):
        update_record(run, status="failed", finished=now())
        raise NoTrialCompletedError(why_nothing(run))


def _finish(search: Search, clock: PhaseClock) -> SearchResult:
    """Ship the frontier, measure it, and close the record."""
    plan, run, prepared = search.plan, search.run, search.prepared
    clock.begin("export")
    unshipped = ship(plan, prepared, search.job, run, search.listener.advance)
    retire(run, set(chosen_trials(plan.space, run.trials())))
    clock.begin("findings")
    find_out(run, plan.space)
    clock.begin("measure")
    rows = measure(plan, run, search.listener.advance)
    clock.end()
    models = run.model_records()
    warnings = [
        *rejections(prepared.data_record()),
        *weak_teacher(models),
        *unshipped,
        *untold(plan, run.trials(), exhausted=search.session.exhausted),
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
