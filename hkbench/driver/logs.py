"""A search in TensorBoard or MLflow, through Ray Tune's own callbacks."""

import os
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.experiment import Trial
from ray.tune.logger import TBXLoggerCallback

from hkbench.driver.plan import LOGS
from hkbench.errors import UsageError

EVENTS = "events.out.tfevents.*"
PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow"}


def check_logs(names: Sequence[str]) -> None:
    """Refuse a log whose package isn't here.

    Raises:
        UsageError: names it, and how to get it.
    """
    for name in names:
        if find_spec(PACKAGES[name]) is None:
            raise UsageError(f"--log {name} needs {PACKAGES[name]}: pip install {PACKAGES[name]}")


def callbacks_of(names: Sequence[str], run: Path, experiment: str) -> list[tune.Callback]:
    """Return Ray's callbacks for what `--log` names.

    Args:
        names: of `LOGS`.
        run: the run directory. TensorBoard's files go to `tensorboard/` in it, one folder for each trial,
            MLflow's to `mlflow.db`, unless `MLFLOW_TRACKING_URI` names a server.
        experiment: what MLflow calls the search.
    """
    found: list[tune.Callback] = []
    if "tensorboard" in names:
        found += [TBXLoggerCallback(), _KeepEvents(run / LOGS["tensorboard"])]
    if "mlflow" in names:
        place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(run / LOGS['mlflow']).resolve()}"
        found.append(MLflowLoggerCallback(tracking_uri=place, experiment_name=experiment))
    return found


class _KeepEvents(tune.Callback):  # type: ignore[misc]
    """Moves what TensorBoard reads out of Ray's folders, which a search throws away."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Keep the files of a trial that has ended."""
        del iteration, trials, info
        self._keep(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Keep the files of a trial whose worker was lost."""
        del iteration, trials, info
        self._keep(trial)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Keep the files of trials that were cut off."""
        del info
        for trial in trials:
            self._keep(trial)

    def _keep(self, trial: Trial) -> None:
        kept = self._folder / f"trial-{int(trial.config['number']):04d}"
        for path in Path(trial.local_path).glob(EVENTS) if trial.local_path else ():
            kept.mkdir(parents=True, exist_ok=True)
            shutil.move(path, kept / path.name)
