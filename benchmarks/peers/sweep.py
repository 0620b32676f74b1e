"""Which settings of a peer are fastest here: `python -m benchmarks.peers.sweep QUESTION ANSWER`.

Each is measured for some steps, with as many trials side by side as Ray would run.
"""

import itertools
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from benchmarks.peers.apart import run_apart
from benchmarks.peers.plan import PeerPlan, PeerSettings
from hkbench.config import usable_cores

WORKERS = (0, 1, 2)
LAYOUTS = (False, True)
CONFIG = {"temperature": 4.0, "alpha": 0.5, "learning_rate": 0.01}
PREFETCHED = 2
"""Batches that each worker of a `DataLoader` makes ahead, by default; taken before timing begins."""
PATIENCE_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Swept:
    """A setting with the pictures a second that all its trials trained on together."""

    settings: PeerSettings
    pictures_per_s: float


def settings_to_try(cores: int) -> list[PeerSettings]:
    """Return every setting that asks for no more threads than cores, and no more than two workers a core.

    Trials at once and threads are 1, 2 and the number of cores; Ray deals whole CPUs, so that with three
    cores two trials at once are left out.
    """
    counts = sorted({1, 2, cores})
    return [
        PeerSettings(workers=workers, threads=threads, channels_last=layout, cpus=cores // concurrency)
        for concurrency, threads, workers, layout in itertools.product(counts, counts, WORKERS, LAYOUTS)
        if concurrency * threads <= cores
        and concurrency * workers <= 2 * cores
        and cores // (cores // concurrency) == concurrency
    ]


def sweep(plan: PeerPlan, settings: list[PeerSettings], *, steps: int) -> list[Swept]:
    """Measure each setting for `steps` steps a trial, in processes of their own; the fastest comes first."""
    question = {"plan": plan.described(), "settings": [asdict(one) for one in settings], "steps": steps}
    rates = run_apart("benchmarks.peers.sweep", question)
    swept = [Swept(settings=one, pictures_per_s=rate) for one, rate in zip(settings, rates, strict=True)]
    return sorted(swept, key=lambda one: one.pictures_per_s, reverse=True)


_together: Barrier


def _start_trial(barrier: Barrier) -> None:
    global _together
    _together = barrier
    # A spawned process would spawn its loaders' workers too; a trial in Ray starts them the platform's way.
    multiprocessing.set_start_method(None, force=True)


def _trial_rate(plan: PeerPlan, settings: PeerSettings, steps: int) -> float:
    """Return the pictures a second of one trial while its neighbours, if any, train too."""
    from benchmarks.peers.online_kd import OnlineDistillation  # the process that only waits needs no torch

    try:
        trial = OnlineDistillation(CONFIG, plan, settings)
        batches = trial.endless_batches()
        for inputs, labels in itertools.islice(batches, 1 + PREFETCHED * settings.workers):
            trial.step(inputs, labels)
        _together.wait(PATIENCE_S)
        started = time.perf_counter()
        for inputs, labels in itertools.islice(batches, steps):
            trial.step(inputs, labels)
        seconds = time.perf_counter() - started
        _together.wait(PATIENCE_S)
    except BaseException:
        _together.abort()  # or the neighbours would wait for this one
        raise
    return steps * plan.batch_size / seconds


def _rates(plan: PeerPlan, settings: list[PeerSettings], steps: int) -> list[float]:
    """Return the pictures a second of each setting; its trials' processes serve all of one concurrency."""
    cores = usable_cores()
    context = multiprocessing.get_context("spawn")
    found: dict[PeerSettings, float] = {}
    for concurrency in sorted({one.concurrency(cores) for one in settings}):
        barrier = context.Barrier(concurrency)
        with ProcessPoolExecutor(concurrency, context, _start_trial, (barrier,)) as pool:
            for one in settings:
                if one.concurrency(cores) == concurrency:
                    trials = [pool.submit(_trial_rate, plan, one, steps) for _ in range(concurrency)]
                    found[one] = sum(trial.result() for trial in trials)
    return [found[one] for one in settings]


def main(asked: Path, answer: Path) -> None:
    """Answer a question that `sweep` asks."""
    question: dict[str, Any] = json.loads(asked.read_text())
    settings = [PeerSettings(**one) for one in question["settings"]]
    answer.write_text(json.dumps(_rates(PeerPlan.of(question["plan"]), settings, question["steps"])))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
