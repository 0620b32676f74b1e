"""Ray Tune, told what to do: it places trials on workers, and this module passes its calls on.

The study is the only truth. Ray's own experiment state is written to a folder that is thrown away, and a
search is resumed by a new run over the same study.
"""

import logging
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Self

from ray import tune
from ray.exceptions import RayError
from ray.tune.error import TuneError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from hkbench.analysis.trials import losses_of
from hkbench.errors import HkbenchError
from hkbench.search.plan import SearchPlan
from hkbench.search.ray_runtime import STOPPING
from hkbench.search.ray_trial import RayTrial
from hkbench.search.scheduler import ParetoHalving
from hkbench.search.session import SearchSession
from hkbench.search.trial import Job
from hkbench.store.atomic import explaining_full_disk


class _DriversOwn:
    """What never leaves the driver: Ray Tune copies and pickles its settings, and a session is neither."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StudySearcher(_DriversOwn, Searcher):  # type: ignore[misc]
    """Ray Tune's view of a search session."""

    def __init__(self, session: SearchSession, job: Job) -> None:
        super().__init__()
        self._session = session
        self._job = job
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the config of the next trial, or that there is none."""
        ready = None
        with self._ending_at_a_fault():
            ready = self._session.next_trial()
        if ready is None:
            return str(Searcher.FINISHED)
        self._numbers[trial_id] = ready.number
        return {
            "job": self._job,
            "number": ready.number,
            "settings": ready.settings.model_dump(),
            "costs": ready.costs.objectives(),
            "recorded_epochs": ready.recorded_epochs,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass on an epoch."""
        if "failed" not in result and trial_id in self._numbers:
            with self._ending_at_a_fault():
                self._session.on_epoch(result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Pass on a trial's end; a trial that Ray calls an error has lost its worker."""
        if trial_id in self._numbers and self._session.fault is None:
            with self._ending_at_a_fault():
                self._session.on_end(self._numbers[trial_id], None if error else result)

    @contextmanager
    def _ending_at_a_fault(self) -> Iterator[None]:
        """End the search at a fault of the driver, such as a full disk: Tune would blame the trial."""
        try:
            yield
        except (HkbenchError, OSError) as error:
            self._session.fault = error

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the study is on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: a search is resumed from its study."""


class ParetoHalvingScheduler(FIFOScheduler):  # type: ignore[misc]
    """Ray Tune's view of the halving rule."""

    def __init__(self, rule: ParetoHalving, objectives: dict[str, str]) -> None:
        super().__init__()
        self._rule = rule
        self._objectives = objectives

    def on_trial_result(self, tune_controller: object, trial: Trial, result: dict[str, Any]) -> str:
        """Stop a trial that its rung leaves behind."""
        del tune_controller, trial
        if "failed" in result:
            return str(TrialScheduler.CONTINUE)
        losses = losses_of(result, self._objectives)
        goes_on = self._rule.goes_on(result["number"], result["epoch"], losses)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)


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


def run_trials(plan: SearchPlan, session: SearchSession, job: Job, rule: ParetoHalving, folder: Path) -> None:
    """Run the session's trials until it has no more; Ctrl-C stops cleanly, a second one at once.

    Args:
        plan: gives concurrency, threads and the GPU share of a trial.
        session: gives trials and takes their results.
        job: what the trials share.
        rule: says which trials go on.
        folder: for Ray's own files; removed afterwards.

    Raises:
        HkbenchError: the disk is full; trials that were on are left to be resumed.
    """
    objectives: dict[str, str] = dict(plan.space.objectives)
    resources = {"cpu": plan.threads, "gpu": plan.gpu_share}
    tuner = tune.Tuner(
        tune.with_resources(RayTrial, resources),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(session, job),
            scheduler=ParetoHalvingScheduler(rule, objectives),
            num_samples=-1,
            max_concurrent_trials=plan.concurrency,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder.resolve()),
            verbose=0,
            stop=SessionStopper(session),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )
    try:
        with explaining_full_disk(folder), _interruptible(session), _quiet_tune():
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
    except (TuneError, RayError, RuntimeError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, HkbenchError | OSError):
            cause = cause.__cause__ or cause.__context__
        raise (cause or error) from None


@contextmanager
def _interruptible(session: SearchSession) -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into a flag that the session obeys; the second one is Python's own."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        session.interrupted = True
        for stopping in STOPPING:
            signal.signal(stopping, signal.default_int_handler)

    before = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
