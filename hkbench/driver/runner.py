"""Ray Tune, told what to do: it places trials on workers, and this module passes its calls on.

The study is the only truth. Ray's own experiment state is written to a folder that is thrown away, and a
search is resumed by a new run over the same study.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.error import TuneError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from hkbench.driver.logs import callbacks_of
from hkbench.driver.placing import placing_of
from hkbench.driver.plan import SearchPlan
from hkbench.driver.ray_runtime import Runtime
from hkbench.driver.ray_trial import RayTrial
from hkbench.driver.session import SearchSession
from hkbench.driver.signals import interruptible
from hkbench.errors import HkbenchError
from hkbench.scheduling.scheduler import ParetoHalving
from hkbench.store.atomic import explaining_full_disk
from hkbench.trials.trial import Job

log = logging.getLogger(__name__)

CHECK_EVERY_S = 1.0


class _DriversOwn:
    """What never leaves the driver: Ray Tune copies and pickles its settings, and a session is neither."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {}


@contextmanager
def ending_at_a_fault(session: SearchSession) -> Iterator[None]:
    """End the search at a fault of the driver, such as a full disk: Tune would blame the trial."""
    try:
        yield
    except Exception as error:
        log.debug("the search ends at a fault", exc_info=True)
        session.fault = session.fault or error


class StudySearcher(_DriversOwn, Searcher):  # type: ignore[misc]
    """Ray Tune's view of a search session."""

    def __init__(self, session: SearchSession, job: Job, has_room: Callable[[], bool]) -> None:
        super().__init__()
        self._has_room = has_room
        self._session = session
        self._job = job
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the config of the next trial, None if there may be one later, or that there is none."""
        ready = None
        if not self._has_room():
            return str(Searcher.FINISHED) if self._session.over else None
        with ending_at_a_fault(self._session):
            ready = self._session.next_trial()
        if ready is None:  # a trial that is under way may yet be taken up again
            return str(Searcher.FINISHED) if self._session.over or not self._session.live else None
        self._numbers[trial_id] = ready.number
        held = {} if ready.held is None else {"held": ready.held}
        job = self._job if ready.held is None else replace(self._job, threads=ready.held.threads)
        return {
            **held,
            "job": job,
            "number": ready.number,
            "settings": ready.settings.model_dump(),
            "costs": ready.costs.objectives(),
            "recorded_epochs": ready.recorded_epochs,
            "attempt": ready.attempt,
            "thaws": ready.thaws,
            "epoch_limit_s": ready.epoch_limit_s,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass on an epoch."""
        if "failed" not in result and trial_id in self._numbers:
            with ending_at_a_fault(self._session):
                self._session.on_epoch(result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Pass on a trial's end; of one that Ray calls an error the scheduler has told the session."""
        if trial_id in self._numbers and self._session.fault is None and not error:
            with ending_at_a_fault(self._session):
                self._session.on_end(self._numbers[trial_id], result)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the study is on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: a search is resumed from its study."""


class ParetoHalvingScheduler(_DriversOwn, FIFOScheduler):  # type: ignore[misc]
    """Ray Tune's view of the halving rule, and the first to hear of a lost worker."""

    def __init__(self, rule: ParetoHalving, session: SearchSession, runtime: Runtime) -> None:
        super().__init__()
        self._rule = rule
        self._session = session
        self._runtime = runtime

    def on_trial_result(self, tune_controller: object, trial: Trial, result: dict[str, Any]) -> str:
        """Stop a trial that its rung leaves behind, or whose report makes no sense: its end says why."""
        del tune_controller, trial
        goes_on = True
        if "failed" not in result and "built" not in result:
            with ending_at_a_fault(self._session):
                goes_on = self._goes_on(result)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def _goes_on(self, result: dict[str, Any]) -> bool:
        judged = self._session.judged(result)
        if judged is None:
            return self._session.expects(result)
        return self._rule.goes_on(
            judged.number,
            judged.epoch,
            judged.losses,
            violation=judged.violation,
            spent=judged.spent,
            again=bool(result.get("thawed")),
        )

    def on_trial_error(self, tune_controller: object, trial: Trial) -> None:
        """Tell the session that a worker is gone, and what Ray says of it."""
        del tune_controller
        if self._runtime.lost is not None:
            return  # it is not the trial's fault
        with ending_at_a_fault(self._session):
            self._session.on_lost(int(trial.config["number"]), _said_of(trial))


def _said_of(trial: Trial) -> str:
    """Return what Ray has written of a trial's error."""
    try:
        return Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    except (OSError, TypeError):
        return ""


class _RayIsGone(BaseException):
    """No `Exception`: at one, Tune would first ask Ray to clean up, and wait for its answer."""


class WorkerWatch(_DriversOwn, tune.Callback):  # type: ignore[misc]
    """Ends workers that report nothing for too long, and the search where Ray itself is gone."""

    def __init__(self, session: SearchSession, runtime: Runtime) -> None:
        self._session = session
        self._runtime = runtime
        self._next_check = 0.0

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Look at the workers; called several times a second.

        Raises:
            _RayIsGone: Ray's processes have ended.
        """
        del iteration, info
        now = time.perf_counter()
        if now >= self._next_check:
            self._next_check = now + CHECK_EVERY_S
            error = self._runtime.look()
            if error is not None:
                raise _RayIsGone(error)
        late = set(self._session.overdue())
        for trial in trials if late else ():
            actor = trial.temporary_state.ray_actor
            if trial.config.get("number") in late and actor is not None:
                log.warning("trial %s is taken from a worker that froze", trial.config["number"])
                ray.kill(actor)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Watch a worker from when it has its trial."""
        del iteration, trials, info
        self._session.worker_began(int(trial.config["number"]))


class SessionStopper(_DriversOwn, tune.Stopper):  # type: ignore[misc]
    """Ends the experiment when the session is over."""

    def __init__(self, session: SearchSession) -> None:
        self._session = session

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stop no single trial."""
        del trial_id, result
        return False

    def stop_all(self) -> bool:
        """Say whether nothing may go on."""
        return self._session.over


def run_trials(
    plan: SearchPlan,
    session: SearchSession,
    job: Job,
    rule: ParetoHalving,
    folder: Path,
    runtime: Runtime,
) -> None:
    """Run the session's trials until it has no more; Ctrl-C stops cleanly, a second one at once.

    Args:
        plan: gives concurrency, threads and the GPU share of a trial.
        session: gives trials, and what each holds where they share GPUs, and takes their results.
        job: what the trials share.
        rule: says which trials go on.
        folder: for Ray's own files; removed afterwards.
        runtime: Ray, watched.

    Raises:
        HkbenchError: the disk is full or out of reach, or Ray is gone; trials that were on are left to be
            resumed.
    """
    placing = placing_of(plan, session)
    job = replace(job, threads=placing.threads)
    tuner = tune.Tuner(
        tune.with_resources(RayTrial, placing.resources),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(session, job, placing.has_room),
            scheduler=ParetoHalvingScheduler(rule, session, runtime),
            num_samples=-1,
            max_concurrent_trials=placing.most_at_once,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder.resolve()),
            verbose=0,
            stop=SessionStopper(session),
            callbacks=[WorkerWatch(session, runtime), *callbacks_of(plan.logs, plan.out, plan.space.name)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )
    try:
        with explaining_full_disk(folder), interruptible(session.interrupt), _quiet_tune():
            _fit(tuner)
            if session.fault is not None:
                raise session.fault
            session.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fit(tuner: tune.Tuner) -> None:
    """Run Tune; where an error of ours has ended it, raise that one and not Tune's wrapping."""
    try:
        tuner.fit()
    except _RayIsGone as gone:
        raise gone.args[0] from None
    except (TuneError, RayError, RuntimeError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, HkbenchError | OSError):
            cause = cause.__cause__ or cause.__context__
        raise (cause or error) from None


@contextmanager
def _quiet_tune() -> Iterator[None]:
    """Keep Ray Tune's own messages off the terminal, where the search's table is."""
    tune_log = logging.getLogger("ray.tune")
    before = tune_log.level
    tune_log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        tune_log.setLevel(before)
