"""A search with plain Ray Tune and `OptunaSearch`, timed: `python -m benchmarks.peers.tune_search Q A`."""

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from benchmarks.peers.apart import run_apart
from benchmarks.peers.plan import PeerPlan, PeerRun, PeerSettings
from benchmarks.peers.trainable import train
from hkbench.config import usable_cores
from hkbench.errors import HkbenchError

OBJECT_STORE_BYTES = 256 * 1024**2
SEARCHED = {"temperature": (1.0, 10.0, "log"), "alpha": (0.0, 0.9, ""), "learning_rate": (0.005, 0.05, "log")}
"""The three parameters that `search_speed.yaml` has too: low, high and whether by the logarithm."""


def timed_searches(asked: list[tuple[PeerPlan, PeerSettings]]) -> list[PeerRun]:
    """Run searches one after the other in a process of their own, with one Ray, and time each.

    Raises:
        HkbenchError: a trial failed.
    """
    question = [{"plan": plan.described(), "settings": asdict(settings)} for plan, settings in asked]
    return [PeerRun(**run) for run in run_apart("benchmarks.peers.tune_search", question)]


def search(plan: PeerPlan, settings: PeerSettings, storage: Path, ray_start_s: float) -> PeerRun:
    """Run a search on the Ray that is up, with its results under `storage`."""
    started = time.perf_counter()
    results = _tuner(plan, settings, storage).fit()
    fit_s = time.perf_counter() - started
    return _read(results, plan, min(plan.trials, settings.concurrency(usable_cores())), ray_start_s, fit_s)


@contextmanager
def _ray() -> Iterator[float]:
    """Start Ray for as long as it takes; gives the seconds that the start took."""
    # Short, for the paths of Ray's sockets lie below it and must not pass 107 bytes.
    short = "/tmp" if os.name == "posix" else None
    with tempfile.TemporaryDirectory(prefix="peer-", dir=short, ignore_cleanup_errors=True) as folder:
        started = time.perf_counter()
        ray.init(
            address="local",
            num_cpus=usable_cores(),
            include_dashboard=False,
            logging_level=logging.ERROR,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=folder,
        )
        try:
            yield time.perf_counter() - started
        finally:
            ray.shutdown()


def _tuner(plan: PeerPlan, settings: PeerSettings, storage: Path) -> tune.Tuner:
    space = {
        name: tune.loguniform(low, high) if scale == "log" else tune.uniform(low, high)
        for name, (low, high, scale) in SEARCHED.items()
    }
    return tune.Tuner(
        tune.with_resources(
            tune.with_parameters(train, plan=plan, settings=settings), {"cpu": settings.cpus, "gpu": 0}
        ),
        tune_config=tune.TuneConfig(
            metric="accuracy", mode="max", search_alg=OptunaSearch(seed=0), num_samples=plan.trials
        ),
        run_config=tune.RunConfig(name="peer", storage_path=str(storage), verbose=0),
        param_space=space,
    )


def _read(
    results: tune.ResultGrid, plan: PeerPlan, concurrency: int, ray_start_s: float, fit_s: float
) -> PeerRun:
    if results.errors:
        raise HkbenchError(f"{len(results.errors)} of {plan.trials} trials of the peer failed.")
    last: list[dict[str, Any]] = [result.metrics for result in results]
    return PeerRun(
        ray_start_s=ray_start_s,
        fit_s=fit_s,
        trials=plan.trials,
        concurrency=concurrency,
        epochs=plan.epochs,
        steps=last[0]["steps"],
        first_batch_s=sum(metrics["first_batch_s"] for metrics in last),
        train_s=sum(metrics["train_s"] for metrics in last),
        validation_s=sum(metrics["validation_s"] for metrics in last),
    )


def main(asked: Path, answer: Path) -> None:
    """Answer a question that `timed_searches` asks."""
    questions = json.loads(asked.read_text())
    runs = []
    with _ray() as ray_start_s:
        for at, one in enumerate(questions):
            plan, settings = PeerPlan.of(one["plan"]), PeerSettings(**one["settings"])
            runs.append(search(plan, settings, answer.parent / f"results_{at}", ray_start_s))
    answer.write_text(json.dumps([asdict(run) for run in runs]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
