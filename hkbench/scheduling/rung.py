"""Those that came to a rung, and how a newcomer stands among them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST = 2048
"""A rung remembers so many trials, the oldest forgotten first, so that a decision takes the same time
however long a study is.
"""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a trial stands in a rung: how many are better, how many there are, whether it is on the
    frontier.
    """

    better: int
    trials: int
    on_frontier: bool

    def among_best(self, share: int) -> bool:
        """Whether it is among the best 1/share, or so few are there that nothing can be said of it yet."""
        return self.trials <= share or self.better < math.ceil(self.trials / share)


class Rung:
    """Trials at a rung, with the number of others that beat each: the rank of Fonseca & Fleming (ICGA 1993).

    A trial that breaks limits is beaten by all that break them less. Among equals in rank those come first
    that lie in an emptier part of the objectives, by crowding distance (NSGA-II, IEEE TEC 2002).
    """

    def __init__(self, objectives: int, most: int = MOST) -> None:
        self._losses = np.full((most, objectives), np.nan)
        self._violations = np.zeros(most)
        self._beaten_by = np.zeros(most, dtype=np.int64)
        self._places: dict[int, int] = {}
        self._numbers = [-1] * most
        self._count = 0
        self._next = 0

    def __len__(self) -> int:
        return self._count

    def place(self, number: int, losses: list[float], violation: float = 0.0) -> Standing:
        """Add a trial, or replace what is known of it, and return how it stands."""
        at = self._places.get(number)
        if at is None:
            at = self._next
            if self._count == len(self._numbers):
                self._take_out(at)
                del self._places[self._numbers[at]]
            else:
                self._count += 1
            self._next = (at + 1) % len(self._numbers)
        else:
            self._take_out(at)
        self._put(at, number, losses, violation)
        return self._standing(at)

    def _put(self, at: int, number: int, losses: list[float], violation: float) -> None:
        self._places[number], self._numbers[at] = at, number
        self._losses[at] = losses if not np.isnan(losses).any() else np.inf
        self._violations[at] = max(violation, 0.0)
        beats, beaten = self._compared(at)
        self._beaten_by[: self._count] += beats
        self._beaten_by[at] = int(beaten.sum())

    def _take_out(self, at: int) -> None:
        beats, _ = self._compared(at)
        self._beaten_by[: self._count] -= beats
        self._losses[at] = np.inf
        self._violations[at] = np.inf

    def _compared(self, at: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which trials the one at `at` beats, and which beat it."""
        losses, violations = self._losses[: self._count], self._violations[: self._count]
        mine, my_violation = losses[at], violations[at]
        no_worse, no_better = (mine <= losses).all(axis=1), (mine >= losses).all(axis=1)
        equal = violations == my_violation
        beats = np.where(equal, no_worse & ~no_better, my_violation < violations)
        beaten = np.where(equal, no_better & ~no_worse, violations < my_violation)
        return beats, beaten

    def _standing(self, at: int) -> Standing:
        ranks = self._beaten_by[: self._count]
        better = int((ranks < ranks[at]).sum())
        tied = np.flatnonzero(ranks == ranks[at])
        if len(tied) > 1:
            distances = crowding_distances(self._losses[tied])
            better += int((distances > distances[tied == at]).sum())
        frontier = ranks[at] == 0 and self._violations[at] <= 0
        return Standing(better=better, trials=self._count, on_frontier=bool(frontier))


def crowding_distances(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far apart the neighbours of each point lie, summed over the objectives and scaled by their
    ranges.

    Args:
        losses: float (n, k).

    Returns:
        float (n,); infinite at the ends of an objective.
    """
    distances = np.zeros(len(losses))
    for column in losses.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distances[order[[0, -1]]] = np.inf
        if span > 0 and np.isfinite(span):
            distances[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distances
