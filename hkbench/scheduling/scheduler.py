"""Asynchronous successive halving on Pareto rank that never stops what could still end on the frontier.

ASHA (arXiv 1810.05934) with non-domination in place of one metric, after MO-ASHA (arXiv 2106.12639). A
trial that comes to a rung is held against all that came there before it. If it is among the best
1/reduction of them, limits first, then by rank, then by crowding, it goes on to the next rung. Any other is
doubted: it goes on from epoch to epoch, and is stopped once even its best case is beaten by a trial that has
finished. The best case is an optimistic bound: where one objective is trained for, that of the model of all
curves (`foresight`), else that of a line (`prospects`).
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from hkbench.analysis.frontier import non_dominated
from hkbench.scheduling.prospects import Prospects
from hkbench.scheduling.rung import Rung
from hkbench.spaces.space import STATIC, Schedule

BestCase = Callable[[int, int, list[float]], list[float]]
GOLDEN = (math.sqrt(5) - 1) / 2


class ParetoHalving:
    """The rule; `runner` ties it to Ray. Reporting the same epoch of a trial again changes nothing.

    Args:
        schedule: rungs, brackets and the confidence of the bound.
        objectives: name → direction, in the order of the losses that are reported.
        best_case: returns the least losses that a trial of this number may end with, after this epoch with
            these losses; by default those of `prospects`.
    """

    def __init__(
        self, schedule: Schedule, objectives: Mapping[str, str], best_case: BestCase | None = None
    ) -> None:
        self._schedule = schedule
        self._width = len(objectives)
        self._prospects: Prospects | None = None
        if best_case is None:
            moving = [name not in STATIC for name in objectives]
            self._prospects = Prospects(moving, schedule.max_epochs, schedule.confidence)
            best_case = self._prospects.best_case
        self._best_case = best_case
        weights = np.cumsum([float(schedule.reduction) ** -each for each in range(schedule.brackets)])
        self._bracket_ends = weights / weights[-1]
        self._rungs: dict[tuple[int, int], Rung] = {}
        self._best: dict[int, list[float]] = {}
        self._passed: dict[int, int] = {}
        self._doubted: set[int] = set()
        self._finished = Finished(self._width)

    def goes_on(
        self,
        number: int,
        epoch: int,
        losses: list[float],
        *,
        violation: float = 0.0,
        spent: float | None = None,
        again: bool = False,
    ) -> bool:
        """Take a trial's report and say whether it is worth more epochs.

        At a rung each objective counts at the best that the trial has had, for one poor epoch says little.

        Args:
            number: of the trial.
            epoch: that it has finished, from 1.
            losses: its objectives, all to be minimised.
            violation: by how much it breaks the limits in all; above 0 is infeasible.
            spent: what it has cost so far in the schedule's unit; None where that is epochs.
            again: that a trial which was thawed had this epoch before: it is known, and decides nothing.
        """
        if self._prospects is not None:
            self._prospects.note(number, epoch, losses)
        if epoch >= self._schedule.max_epochs:
            self._leave(number)
            if violation <= 0:
                self._finished.add(losses)
            return True
        best = [min(pair) for pair in zip(self._best.get(number, losses), losses, strict=True)]
        self._best[number] = best
        rung = self._rung_reached(number, float(epoch if spent is None else spent))
        if rung is not None:
            if rung.place(number, best, violation).among_best(self._schedule.reduction):
                self._doubted.discard(number)
            else:
                self._doubted.add(number)
        if again or number not in self._doubted or not self._finished.known:
            return True
        if not self._finished.beat(self._best_case(number, epoch, losses)):
            return True
        self._leave(number)
        return False

    def _leave(self, number: int) -> None:
        self._best.pop(number, None)
        self._passed.pop(number, None)
        self._doubted.discard(number)
        if self._prospects is not None:
            self._prospects.forget(number)

    def _rung_reached(self, number: int, spent: float) -> Rung | None:
        """Return the rung that a trial has just come to, the highest if it came to several."""
        schedule, bracket = self._schedule, self.bracket_of(number)
        level, threshold = -1, float(schedule.grace * schedule.reduction**bracket)
        while spent >= threshold:
            level, threshold = level + 1, threshold * schedule.reduction
        if level < 0 or self._passed.get(number, -1) >= level:
            return None
        self._passed[number] = level
        return self._rungs.setdefault((bracket, level), Rung(self._width))

    def bracket_of(self, number: int) -> int:
        """Return the bracket of a trial: each has a longer grace than the one before, and fewer trials.

        The shares are those of Hyperband (arXiv 1603.06560), dealt out evenly and by the number alone.
        """
        return int(np.searchsorted(self._bracket_ends, number * GOLDEN % 1.0, side="right"))


class Finished:
    """The frontier of the feasible trials that have trained to their end."""

    def __init__(self, objectives: int) -> None:
        self._losses = np.empty((0, objectives))

    @property
    def known(self) -> bool:
        """Whether any trial has finished."""
        return len(self._losses) > 0

    def add(self, losses: list[float]) -> None:
        """Add a trial's losses, unless they are beaten; what they beat is dropped."""
        all_ = np.concatenate([self._losses, [losses]])
        self._losses = all_[non_dominated(all_)]

    def beat(self, losses: list[float]) -> bool:
        """Whether a trial on the frontier is as good in every objective and better in one."""
        no_worse, other = (self._losses <= losses).all(axis=1), (self._losses != losses).any(axis=1)
        return bool((no_worse & other).any())
