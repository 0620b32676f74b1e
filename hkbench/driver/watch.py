"""On the driver's side: which workers have not reported for too long, frozen or out of reach."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from hkbench.spaces.settings import TrialSettings
from hkbench.trials.watchdog import step_limit

EPOCHS_KNOWN = 3
SLOWEST = 20.0
SHORTEST_LIMIT_S = 120.0
"""An epoch may take 20 times the median of its architecture, once 3 are known, and 2 minutes in any case:
neighbours, measurements that pause it and a disk that wakes up don't end a trial."""
SETUP_LIMIT_S = 7200.0
"""Until a worker has built its trial: what frozen stages make of all views is computed there."""
LATER_S = 15.0
"""The driver waits longer than the worker's own watchdog, which knows where it hung."""
LOOK_S = 1.0
"""More than this between two looks doesn't count: the driver was busy or asleep, and reports wait unread."""
REMEMBERED = 64


class EpochLimit:
    """How long an epoch may take: as the user says, or as far as epochs are known."""

    def __init__(self, given_s: float | None) -> None:
        self._given_s = given_s
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def note(self, label: str, seconds: float) -> None:
        """Take in an epoch of an architecture."""
        known = self._seconds[label]
        known.append(seconds)
        del known[:-REMEMBERED]

    def of(self, label: str) -> float | None:
        """Return the limit of an architecture's epochs, in seconds; None while too few are known."""
        if self._given_s is not None:
            return self._given_s
        known = self._seconds[label]
        if len(known) < EPOCHS_KNOWN:
            return None
        return max(SHORTEST_LIMIT_S, SLOWEST * statistics.median(known))


@dataclass(kw_only=True)
class _Watched:
    label: str
    settings: TrialSettings
    since: float
    last_epoch: int
    built: bool = False
    reports: int = 0


class Watch:
    """The live workers and when each last reported, by a clock that runs only while the driver looks."""

    def __init__(
        self, limit: EpochLimit, max_epochs: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._limit = limit
        self._max_epochs = max_epochs
        self._clock = clock
        self._looked_at = clock()
        self._now = 0.0
        self._workers: dict[int, _Watched] = {}

    def look(self) -> list[int]:
        """Return the trials whose workers are overdue; called often."""
        now = self._clock()
        self._now += min(max(now - self._looked_at, 0.0), LOOK_S)
        self._looked_at = now
        return [number for number, worker in self._workers.items() if self._is_overdue(worker)]

    def began(self, number: int, label: str, settings: TrialSettings, recorded_epochs: int) -> None:
        """A worker has been given a trial."""
        self._workers[number] = _Watched(
            label=label, settings=settings, since=self._now, last_epoch=recorded_epochs
        )

    def reported(self, number: int, epoch: int | None) -> None:
        """A worker has built its trial, or finished an epoch."""
        worker = self._workers.get(number)
        if worker is not None:
            worker.since, worker.built = self._now, True
            if epoch is not None:
                worker.last_epoch, worker.reports = epoch, worker.reports + 1

    def ended(self, number: int) -> None:
        """A trial has no worker any more."""
        self._workers.pop(number, None)

    def _is_overdue(self, worker: _Watched) -> bool:
        if not worker.built:
            return self._now - worker.since > SETUP_LIMIT_S
        limit = step_limit(
            self._limit.of(worker.label),
            worker.settings,
            first=worker.reports == 0,
            last=worker.last_epoch + 1 >= self._max_epochs,
        )
        return limit is not None and self._now - worker.since > limit + LATER_S
