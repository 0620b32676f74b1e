"""What the driver takes for each report of 1,000 trials at once, while a study grows to 100,000 reports.

A simulated cluster: the real session, records, searcher and stopping rule of `hkbench search` take in the
reports of trials that nobody trains. What Ray does to bring a report isn't in it, nor what a sampler takes
for a proposal, which is timed by itself: it is due once for each trial, not for each report.
"""

import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.claim import Claim, machine, main
from hkbench.driver.plan import SearchPlan
from hkbench.driver.session import SearchSession
from hkbench.driver.trial_records import Ready
from hkbench.models.architecture import Architecture
from hkbench.sampling.foresight import Foresight
from hkbench.sampling.proposer import FrontierProposer
from hkbench.scheduling.scheduler import ParetoHalving
from hkbench.spaces.file import load_space
from hkbench.spaces.space import Schedule, Space
from hkbench.store.rundir import RunDirectory
from hkbench.study.ask_tell import AskTell
from hkbench.study.costs import ArchitectureCost
from hkbench.study.point_costs import PointCosts

TARGET_MS = 1.0
FLAT = 1.25
"""Reports of the last tenth may take so many times as long as those of the fifth, at the same share of ends.
"""
LIVE, REPORTS = 1000, 100_000
QUICK_LIVE, QUICK_REPORTS = 200, 4000
EPOCHS = 27
TENTHS = 10
PROPOSALS = 5
MEASURED = ("top5", "balanced_accuracy", "calibration_error", "macro_f1", "log_loss")


class Deaf:
    """A listener that hears nothing."""

    def __getattr__(self, name: str) -> Any:
        """Take whatever is said."""
        return lambda *_: None


def cost_of(architecture: Architecture, precision: str) -> ArchitectureCost:
    """Return made-up costs: more pixels, more of everything."""
    del precision
    name = sum(map(ord, architecture.model))
    size = 50_000 + 997 * (name % 100) + architecture.image_size**2
    return ArchitectureCost(artifact_bytes=size, latency_ms=size / 1e5, parameters=size // 4, macs=10 * size)


class Cluster:
    """Trials side by side that report in turns, in an order of chance; `number` → their next epoch."""

    def __init__(self, folder: Path, live: int) -> None:
        space = load_space("distill")
        schedule = Schedule(trials=10**9, max_epochs=EPOCHS)
        self.space = space.model_copy(update={"schedule": schedule, "constraints": {}})
        plan = SearchPlan(space=self.space, out=folder, sampler="random", concurrency=live)
        run = RunDirectory(folder)
        self._study = AskTell.open(folder / "study.log", self.space, seed=0, sampler="random")
        self.session = SearchSession(plan, self._study, run, cost_of, Deaf())
        self._rule = ParetoHalving(schedule, self.space.objectives, self.session.searcher.best_case)
        self._rng = np.random.default_rng(0)
        self._live = live
        self._order: list[Ready] = []
        self._epochs: dict[int, int] = {}
        self._ends: dict[int, float] = {}
        self.asks_ms: list[float] = []

    def fill(self) -> None:
        """Start trials until there are as many as there may be."""
        while len(self._order) < self._live:
            begun = time.perf_counter()
            ready = self.session.next_trial()
            self.asks_ms.append(1e3 * (time.perf_counter() - begun))
            assert ready is not None
            self._order.append(ready)
            self._epochs[ready.number] = 0
            self._ends[ready.number] = _final_accuracy(ready, self._rng)

    def report(self) -> tuple[float, bool]:
        """Let one trial, any, report its next epoch.

        Returns:
            The milliseconds that the driver took for it, and whether the trial has ended with it.
        """
        at = int(self._rng.integers(len(self._order)))
        number = self._order[at].number
        self._epochs[number] += 1
        report = self._report_of(self._order[at])
        begun = time.perf_counter()
        judged = self.session.judged(report)
        assert judged is not None
        goes_on = self._rule.goes_on(
            number, judged.epoch, judged.losses, violation=judged.violation, spent=judged.spent
        )
        ended = not goes_on or judged.epoch == EPOCHS
        if ended:
            self.session.on_end(number, report)
        else:
            self.session.on_epoch(report)
        took = 1e3 * (time.perf_counter() - begun)
        if ended:
            self._order[at] = self._order[-1]
            self._order.pop()
        return took, ended

    def _report_of(self, trial: Ready) -> dict[str, Any]:
        number, epoch = trial.number, self._epochs[trial.number]
        accuracy = self._ends[number] * (1 - math.exp(-epoch / 6)) + float(self._rng.normal(0, 0.004))
        usage = {"seconds": 9.0, "cpu_seconds": 9.0, "peak_rss_bytes": 10**9}
        missing = {"gpu_seconds": None, "peak_gpu_bytes": None, "energy_j": None, "gpu_reason": "no GPU"}
        return {
            "number": number,
            "epoch": epoch,
            "train_loss": 1.0,
            "learning_rate": 0.01,
            "seconds": 9.0,
            "accuracy": accuracy,
            **dict.fromkeys(MEASURED, accuracy),
            **{f"usage_{name}": value for name, value in (usage | missing).items()},
            **trial.costs.objectives(),
            "device": "cpu",
            "precision": "fp32",
            "node": "simulated",
        }


def _final_accuracy(ready: Ready, rng: np.random.Generator) -> float:
    temperature = ready.settings.loss_config.temperature or 10.0
    size = cost_of(ready.settings.architecture, "fp32").artifact_bytes
    return 0.9 - 0.05 * abs(math.log(temperature / 3)) - 2000 / size + float(rng.normal(0, 0.02))


def proposal_ms(space: Space, trials: int, live: int) -> float:
    """Return how long hkbench's own sampler takes for a proposal after so many trials, the median."""
    rng = np.random.default_rng(0)
    foresight = Foresight(space, seed=0)
    study = AskTell.in_memory(space, seed=0, sampler="random")

    for number in range(trials):
        asked = study.ask()
        assert asked is not None
        foresight.started(number, asked.params)
        epochs = EPOCHS if number % 9 == 0 else int(rng.integers(1, 9))
        for epoch in range(1, epochs + 1):
            foresight.trained(number, epoch, -0.8 * (1 - math.exp(-epoch / 6)) + float(rng.normal(0, 0.02)))
        if number < trials - live:
            foresight.ended(number, "complete" if epochs == EPOCHS else "stopped")
    proposer = FrontierProposer(space, foresight, PointCosts(space, cost_of), seed=0)
    found = []
    for _ in range(PROPOSALS):
        begun = time.perf_counter()
        proposer.propose(())
        found.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(found)


def _by_tenth(took: NDArray[np.float64], wanted: NDArray[np.bool_]) -> list[float]:
    """Return the mean of those wanted in each tenth of the reports, in ms; 0 where there is none."""
    parts = zip(np.array_split(took, TENTHS), np.array_split(wanted, TENTHS), strict=True)
    return [round(float(part[which].mean()), 4) if which.any() else 0.0 for part, which in parts]


def measure(quick: bool) -> Claim:
    """Take in the reports, and compare what they cost as the study grows."""
    live, reports = (QUICK_LIVE, QUICK_REPORTS) if quick else (LIVE, REPORTS)
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder), live)
        reports_ms, ended, asks = [], [], []
        for _ in range(TENTHS):
            before = len(cluster.asks_ms)
            for _ in range(reports // TENTHS):
                cluster.fill()
                ms, end = cluster.report()
                reports_ms.append(ms)
                ended.append(end)
            asks.append(cluster.asks_ms[before:])
        trials = len(cluster.asks_ms)
    took, ends = np.array(reports_ms), np.array(ended)
    ends_ms, epochs_ms = _by_tenth(took, ends), _by_tenth(took, ~ends)
    share = float(ends.mean())
    alike = [share * end + (1 - share) * epoch for end, epoch in zip(ends_ms, epochs_ms, strict=True)]
    growth = alike[-1] / alike[TENTHS // 2 - 1]
    mean = float(took.mean())
    return Claim(
        name="driver_cost",
        value=mean,
        unit=f"ms of the driver's own work for each report, {live} trials at once",
        target=f"below {TARGET_MS}, flat to {reports:,} reports (tenth tenth at most {FLAT} × the fifth)",
        holds=mean < TARGET_MS and growth <= FLAT,
        details={
            "reports": reports,
            "trials": trials,
            "ms_of_ends_by_tenth_of_the_reports": ends_ms,
            "ms_of_others_by_tenth_of_the_reports": epochs_ms,
            "ends_by_tenth_of_the_reports": [int(part.sum()) for part in np.array_split(ends, TENTHS)],
            "growth": round(growth, 2),
            "p50_ms": float(np.percentile(took, 50)),
            "p99_ms": float(np.percentile(took, 99)),
            "longest_ms": float(took.max()),
            "ask_random_ms_by_tenth": [round(statistics.mean(part), 2) if part else None for part in asks],
            "proposal_of_frontier_ms": {
                f"{each} trials": round(proposal_ms(cluster.space, each, min(live, each // 2)), 1)
                for each in ((100, 400) if quick else (100, 1000, 10_000))
            },
            **machine(threads=1),
        },
    )


if __name__ == "__main__":
    main(measure)
