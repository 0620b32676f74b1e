"""What a search may spend: time, epochs or seconds of a GPU, over all of its runs together."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Self

from hkbench.errors import UsageError
from hkbench.store.records import Usage

Unit = Literal["seconds", "epochs", "gpu_seconds"]
WRITTEN: dict[str, tuple[Unit, float]] = {
    "s": ("seconds", 1),
    "m": ("seconds", 60),
    "h": ("seconds", 3600),
    "epoch": ("epochs", 1),
    "epochs": ("epochs", 1),
    "gpu-s": ("gpu_seconds", 1),
}
"""How a unit is written → the unit and how many of it that is."""
SHORT: dict[Unit, str] = {"seconds": "s", "epochs": " epochs", "gpu_seconds": " gpu-s"}
EXPECTED = "A budget is a number with s, m or h, such as 10m, or of epochs or gpu-s, such as '200 epochs'"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """An amount of a unit: seconds on the wall, epochs of all trials, or seconds in which a GPU is busy."""

    amount: float
    unit: Unit

    def __str__(self) -> str:
        return f"{self.amount:.12g}{SHORT[self.unit]}"

    def extended(self, more: Self) -> Self:
        """Return this budget and `more` together.

        Raises:
            UsageError: they are of different units.
        """
        if more.unit != self.unit:
            raise UsageError(f"The search has a budget of {self}: it can't be extended by {more}.")
        return replace(self, amount=self.amount + more.amount)


def parse_budget(text: str) -> Budget:
    """Return the budget that a text such as `10m`, `200 epochs` or `600 gpu-s` names.

    Raises:
        UsageError: it is no such text, or not above 0.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z-]+)\s*", text)
    if found is None or found[2] not in WRITTEN or float(found[1]) <= 0:
        raise UsageError(f"{EXPECTED}; found '{text}'.")
    unit, times = WRITTEN[found[2]]
    return Budget(amount=float(found[1]) * times, unit=unit)


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as `90s`, `10m` or `1.5h`.

    Raises:
        UsageError: it is no such text, or not above 0.
    """
    found = parse_budget(text)
    if found.unit != "seconds":
        raise UsageError(f"A time is a number with s, m or h, such as 10m; found '{text}'.")
    return found.amount


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What epochs have cost: how many there were, their seconds, and those of a GPU."""

    epochs: int = 0
    seconds: float = 0.0
    gpu_seconds: float = 0.0

    def with_epoch(self, seconds: float, usage: Usage | None) -> "Spent":
        """Return this and one epoch more."""
        busy = usage.gpu_seconds if usage is not None else None
        return Spent(
            epochs=self.epochs + 1,
            seconds=self.seconds + seconds,
            gpu_seconds=self.gpu_seconds + (busy or 0.0),
        )


class Spending:
    """What is left of a budget; what earlier runs of the search have spent counts.

    Epochs are on record with the wall time that the search had taken. In runs of older versions they aren't:
    there it is taken to be the seconds of all epochs over the trials that go on at once.
    """

    def __init__(self, at_once: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._at_once = max(at_once, 1)
        self._clock = clock
        self._all = Spent()
        self._dearest = Spent()
        self._recorded_s: float | None = None
        self.begin(None)

    def begin(self, budget: Budget | None) -> None:
        """Start a budget now, or go on without one; the epochs that were noted before are spent."""
        self._budget = budget
        by_epochs = self._all.seconds / self._at_once
        self._before_s = by_epochs if self._recorded_s is None else self._recorded_s
        self._started = self._clock()

    def lift(self) -> None:
        """Go on without the budget; the clock goes on too."""
        self._budget = None

    @property
    def elapsed_s(self) -> float:
        """What the search has taken so far, all its runs together."""
        return self._before_s + self._clock() - self._started

    def note(self, seconds: float, usage: Usage | None, search_seconds: float | None = None) -> None:
        """Take in an epoch that was trained, on record with what the search had taken until then."""
        if search_seconds is not None:
            self._recorded_s = max(search_seconds, self._recorded_s or 0.0)
        self._all = self._all.with_epoch(seconds, usage)
        one = Spent().with_epoch(seconds, usage)
        self._dearest = Spent(
            epochs=1,
            seconds=max(one.seconds, self._dearest.seconds),
            gpu_seconds=max(one.gpu_seconds, self._dearest.gpu_seconds),
        )

    @property
    def spent(self) -> float:
        """How much was spent, in the budget's unit."""
        if self._budget is None or self._budget.unit == "seconds":
            return self.elapsed_s
        return float(self._of(self._all))

    @property
    def left(self) -> float:
        """How much is left; without an end where there is no budget."""
        return float("inf") if self._budget is None else self._budget.amount - self.spent

    @property
    def over(self) -> bool:
        """Whether nothing is left."""
        return self.left <= 0

    def on_top(self) -> Budget:
        """Return the budget that leaves all of this one, on top of what was spent."""
        assert self._budget is not None
        before = self._before_s if self._budget.unit == "seconds" else self._of(self._all)
        return replace(self._budget, amount=self._budget.amount + before)

    def allows_another(self, live: int) -> bool:
        """Whether one trial more, beside so many, could train the dearest epoch seen."""
        if self._budget is None:
            return True
        shared = 1 if self._budget.unit == "seconds" else live + 1
        return not self.over and self.left >= shared * self._of(self._dearest)

    def _of(self, spent: Spent) -> float:
        assert self._budget is not None
        match self._budget.unit:
            case "seconds":
                return spent.seconds
            case "epochs":
                return spent.epochs
            case "gpu_seconds":
                return spent.gpu_seconds
