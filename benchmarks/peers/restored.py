"""A search with Ray Tune that goes on where it was cut off, as Ray's documentation shows it.

Run as `python -m benchmarks.peers.restored QUESTION ANSWER`, again and again until it ends: "How to Enable
Fault Tolerance in Ray Tune" has `Tuner.can_restore`, `Tuner.restore`, a report and a checkpoint an epoch, and
retries of a trial whose worker is lost.
"""

import json
import logging
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from benchmarks.killed.notes import write
from benchmarks.peers.checkpointed import train
from hkbench.config import usable_cores

NAME = "search"
OBJECT_STORE_BYTES = 256 * 1024**2
MAX_FAILURES = 2
"""As hkbench has it."""


class Done(tune.Callback):  # type: ignore[misc]
    """Notes which trials Tune calls complete."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Write a note."""
        del iteration, trials, info
        write("done", trial.trial_id, 0, "")


def tuner_of(asked: dict[str, Any]) -> tune.Tuner:
    """Return the tuner of a search that is there, or a new one."""
    experiment = Path(asked["storage"]) / NAME
    trainable = tune.with_resources(
        tune.with_parameters(train, pictures=asked["pictures"], epochs=asked["epochs"]), {"cpu": 1}
    )
    if tune.Tuner.can_restore(str(experiment)):
        return tune.Tuner.restore(str(experiment), trainable, resume_unfinished=True, restart_errored=False)
    return tune.Tuner(
        trainable,
        param_space={
            "learning_rate": tune.loguniform(0.005, 0.05),
            "momentum": tune.uniform(0.5, 0.95),
        },
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            search_alg=OptunaSearch(seed=asked["seed"]),
            num_samples=asked["trials"],
            max_concurrent_trials=asked["at_once"],
        ),
        run_config=tune.RunConfig(
            name=NAME,
            storage_path=asked["storage"],
            verbose=0,
            callbacks=[Done()],
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
        ),
    )


def main(question: Path, answer: Path) -> None:
    """Begin the search or go on with it, in a Ray of its own, and write what came of each trial."""
    asked = json.loads(question.read_text())
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray.init(
        address="local",
        num_cpus=max(usable_cores(), asked["at_once"]),
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _temp_dir=asked["ray"],
    )
    results = tuner_of(asked).fit()
    rows = [
        {
            "trial": (result.metrics or {}).get("trial_id", result.path),
            "epochs": (result.metrics or {}).get("epochs", 0),
            "error": None if result.error is None else str(result.error).splitlines()[-1],
        }
        for result in results
    ]
    answer.write_text(json.dumps(rows))
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
