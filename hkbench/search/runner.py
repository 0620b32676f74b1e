"""Ray Tune, told what to do: it places trials on workers, and this module passes its calls on.

The study is the only truth. Ray's own experiment state is written to a folder that is thrown away, and a
search is resumed by a new run over the same study.
"""

import logging
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from hkbench.config import usable_cores
from hkbench.search.plan import SearchPlan
from hkbench.search.scheduler import ParetoHalving
from hkbench.search.session import SearchSession
from hkbench.search.trial import Job, RayTrial

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402 - Ray reads its environment as it is imported
from ray import tune  # noqa: E402
from ray.tune.experiment import Trial  # noqa: E402
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

log = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 256 * 1024**2


class StudySearcher(Searcher):  # type: ignore[misc]
    """Ray Tune's view of a search session."""

    def __init__(self, session: SearchSession, job: Job) -> None:
        super().__init__()
        self._session = session
        self._job = job
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the config of the next trial, or that there is none."""
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
            self._session.on_epoch(result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Pass on a trial's end; a trial that Ray calls an error has lost its worker."""
        if trial_id in self._numbers:
            self._session.on_end(self._numbers[trial_id], None if error else result)

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
        losses = [
            -result[name] if direction == "maximize" else result[name]
            for name, direction in self._objectives.items()
        ]
        goes_on = self._rule.goes_on(result["number"], result["epoch"], losses)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)


class SessionStopper(tune.Stopper):  # type: ignore[misc]
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


@contextmanager
def ray_runtime(plan: SearchPlan) -> Iterator[None]:
    """Start Ray on this machine, or join the cluster at the plan's address, for as long as it takes."""
    started_here = not ray.is_initialized()
    if started_here and plan.address:
        ray.init(address=plan.address, logging_level=logging.ERROR, log_to_driver=False)
    elif started_here:
        ray.init(
            address="local",
            num_cpus=usable_cores(),
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            object_store_memory=OBJECT_STORE_BYTES,
        )
    try:
        yield
    finally:
        if started_here:
            ray.shutdown()


def run_trials(plan: SearchPlan, session: SearchSession, job: Job, rule: ParetoHalving, folder: Path) -> None:
    """Run the session's trials until it has no more; Ctrl-C stops cleanly, a second one at once.

    Args:
        plan: gives concurrency, threads and the GPU share of a trial.
        session: gives trials and takes their results.
        job: what the trials share.
        rule: says which trials go on.
        folder: for Ray's own files; emptied afterwards.
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
        with _interruptible(session), _quiet_tune():
            tuner.fit()
    finally:
        session.close()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _interruptible(session: SearchSession) -> Iterator[None]:
    """Turn the first Ctrl-C into a flag that the session obeys; the second one is Python's own."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        session.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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
