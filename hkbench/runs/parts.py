"""The parts of a search, put together, and its trials run: the search's own, the twin, the confirmations."""

from dataclasses import dataclass
from typing import Protocol

from hkbench.config import cache_dir
from hkbench.driver.alone import run_alone
from hkbench.driver.ledger import TrialListener
from hkbench.driver.plan import SearchPlan
from hkbench.driver.ray_runtime import ray_runtime
from hkbench.driver.runner import run_trials
from hkbench.driver.session import SearchSession
from hkbench.runs.confirm import Wanted, confirmations, due
from hkbench.runs.finish import best_student, twin_of, twin_params
from hkbench.runs.gpus import gpu_shares
from hkbench.runs.prepare import Listener, PhaseClock, Prepared
from hkbench.scheduling.judging import never_stopping, rule_so_far
from hkbench.store.rundir import RunDirectory
from hkbench.study.ask_tell import AskTell
from hkbench.study.costs import Costs
from hkbench.study.points import Asked
from hkbench.study.storage import RunStorage
from hkbench.trials.arrival import Origin, hand_over
from hkbench.trials.fence import Fence
from hkbench.trials.trial import Job


class SearchListener(Listener, TrialListener, Protocol):
    """Who is told of everything."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """The parts of a search that is under way."""

    plan: SearchPlan
    run: RunDirectory
    prepared: Prepared
    costs: Costs
    job: Job
    study: AskTell
    session: SearchSession
    listener: SearchListener


def assemble(
    plan: SearchPlan,
    run: RunDirectory,
    prepared: Prepared,
    costs: Costs,
    listener: SearchListener,
) -> Search:
    """Put the parts of a search together: its study, where its checkpoints are, and what its trials share."""
    storage = RunStorage.of(run.path, plan.space.name, plan.storage)
    study = AskTell.at(storage, run.path, plan.space, plan.seed, plan.sampler)
    study.narrow_to(plan.space)
    checkpoints = storage.checkpoint_store(run.path)
    origin = None
    if plan.address is not None:
        origin = Origin(
            cache=cache_dir(),
            data=plan.data,
            group_by=plan.group_by,
            fingerprint=prepared.source.fingerprint,
            storage=checkpoints,
        )
        hand_over(prepared.shared, origin)
    job = Job(
        shared=prepared.shared,
        checkpoints=checkpoints,
        max_epochs=plan.space.schedule.max_epochs,
        seed=plan.seed,
        threads=plan.threads,
        device=plan.device,
        origin=origin,
        fence=Fence.raised(checkpoints),
    )
    return Search(
        plan=plan,
        run=run,
        prepared=prepared,
        costs=costs,
        study=study,
        listener=listener,
        session=SearchSession(plan, study, run, costs.of, listener, job=job),
        job=job,
    )


def train(search: Search, clock: PhaseClock) -> None:
    """Run the trials and then, alone, the twin of the best student without a teacher."""
    ray_files = search.run.path / "ray"
    clock.begin(search.plan.kind)
    if search.plan.kind == "train":
        run_alone(search.session, search.job, search.listener.advance)
        return
    session, space = search.session, search.plan.space
    session.start_clock(search.plan.budget)
    idle = session.idle
    if idle and _lacking_twin(search) is None and not unconfirmed(search.plan, search.run):
        return
    with ray_runtime(search.plan) as runtime:
        if search.plan.device != "cpu":
            clock.begin("gpu memory")
            session.shares = gpu_shares(search.plan, search.prepared.shared, search.run) or session.shares
            clock.begin(search.plan.kind)
        if not idle:
            session.start_clock(search.plan.budget)
            searcher = session.searcher
            best_case = searcher.best_case if searcher.foresees else None
            rule = rule_so_far(space, search.run, search.study.running(), search.costs.of, best_case)
            run_trials(search.plan, session, search.job, rule, ray_files, runtime)
        for phase, ask in (("twin without teacher", _missing_twin), ("confirm", _confirmations_due)):
            asked = [] if session.interrupted or session.hopeless else ask(search)
            if asked:
                clock.begin(phase)
                session.only(asked)
                run_trials(search.plan, session, search.job, never_stopping(space), ray_files, runtime)


def _confirmations_due(search: Search) -> list[Asked]:
    plan = search.plan
    return due(search.study, search.run.trials(), plan.space.objectives, plan.confirm, plan.confirm_seeds)


def _missing_twin(search: Search) -> list[Asked]:
    """Ask for the twin of the best student, unless there is nothing to ask for."""
    lacking = _lacking_twin(search)
    if lacking is None:
        return []
    student, params = lacking
    return [search.study.additions.insist(params, student, f"twin of {student} without a teacher")]


def _lacking_twin(search: Search) -> tuple[int, dict[str, object]] | None:
    """Return the best student and its twin's point, unless that was trained to the end or can't be."""
    if search.plan.quick:
        return None
    trials, space = search.run.trials(), search.plan.space
    student = best_student(trials)
    params = None if student is None else twin_params(student, space)
    if student is None or params is None or twin_of(student, space, trials) is not None:
        return None
    return student.number, params


def unconfirmed(plan: SearchPlan, run: RunDirectory) -> list[Wanted]:
    """Return what `--confirm` asks for and no trial has given."""
    return confirmations(run.trials(), plan.space.objectives, plan.confirm, plan.confirm_seeds)
