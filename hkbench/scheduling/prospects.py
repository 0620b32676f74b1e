"""How good a trial may yet become: an optimistic bound on its last epoch, from the curves of those that
have finished.

After epoch t the final value y(E) of a trial is predicted from its present value y(t) by least squares over
the trials that have both. The bound is the upper end of the prediction interval of that line (Draper &
Smith, Applied Regression Analysis, section 1.4), so that it widens where few trials have finished, where
they scatter, and where the trial is unlike them. It is never below the present value.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

from scipy.stats import t as student_t

FEWEST = 4
"""With fewer finished trials than this nothing is known: anything may become of a trial."""


class _Line:
    """Sums from which a line through (present, final) and its prediction interval follow."""

    __slots__ = ("n", "x", "xx", "xy", "y", "yy")

    def __init__(self) -> None:
        self.n = 0
        self.x = self.y = self.xx = self.xy = self.yy = 0.0

    def add(self, x: float, y: float) -> None:
        self.n += 1
        self.x, self.y = self.x + x, self.y + y
        self.xx, self.xy, self.yy = self.xx + x * x, self.xy + x * y, self.yy + y * y

    def least(self, x: float, confidence: float) -> float:
        """Return the lower end of the interval of the final loss of a trial whose present loss is `x`."""
        if self.n < FEWEST:
            return -math.inf
        mean_x, mean_y = self.x / self.n, self.y / self.n
        spread = max(self.xx / self.n - mean_x**2, 0.0)
        together = self.xy / self.n - mean_x * mean_y
        slope = max(together / spread, 0.0) if spread > 1e-12 else 0.0
        predicted = mean_y + slope * (x - mean_x)
        residual = max(self.yy / self.n - mean_y**2 - slope * (2 * together - slope * spread), 0.0)
        deviation = math.sqrt(residual * self.n / (self.n - 2))
        leverage = (x - mean_x) ** 2 / (spread * self.n) if spread > 1e-12 else 0.0
        return predicted - _quantile(confidence, self.n - 2) * deviation * math.sqrt(
            1 + 1 / self.n + leverage
        )


@lru_cache(maxsize=4096)
def _quantile(confidence: float, freedom: int) -> float:
    return float(student_t.ppf(confidence, freedom))


class Prospects:
    """The bound on each objective; `moving` says which of them training changes."""

    def __init__(self, moving: Sequence[bool], last: int, confidence: float) -> None:
        self._moving = [column for column, moves in enumerate(moving) if moves]
        self._last = last
        self._confidence = confidence
        self._curves: dict[int, dict[int, list[float]]] = {}
        self._lines = {(epoch, column): _Line() for epoch in range(1, last) for column in self._moving}

    def note(self, number: int, epoch: int, losses: list[float]) -> None:
        """Take a trial's losses after an epoch; after the last one its curve is learned from, and
        forgotten.
        """
        curve = self._curves.setdefault(number, {})
        curve[epoch] = losses
        if epoch < self._last:
            return
        for before, found in self._curves.pop(number).items():
            for column in self._moving:
                if before < self._last and not math.isnan(found[column] + losses[column]):
                    self._lines[before, column].add(found[column], losses[column])

    def forget(self, number: int) -> None:
        """Drop the curve of a trial that was stopped."""
        self._curves.pop(number, None)

    def best_case(self, number: int, epoch: int, losses: list[float]) -> list[float]:
        """Return the least losses that a trial may have after its last epoch; any trial, by its losses
        alone.
        """
        del number
        best = list(losses)
        for column in self._moving:
            best[column] = min(
                best[column], self._lines[epoch, column].least(losses[column], self._confidence)
            )
        return best
