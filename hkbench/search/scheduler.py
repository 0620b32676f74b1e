"""Asynchronous successive halving on Pareto rank: stops what is beaten in every objective.

ASHA (arXiv 1810.05934) with the rank of non-domination in place of one metric, after MO-ASHA
(arXiv 2106.12639): at each rung a trial goes on if it is on the frontier of those that have reached the
rung, or among the best 1/reduction of them by rank. Until more than `reduction` trials have reached a rung,
it stops none: of two, one is always beaten.
"""

import math

import numpy as np

from hkbench.analysis.frontier import pareto_ranks
from hkbench.search.space import Schedule


class ParetoHalving:
    """The rule; `runner` ties it to Ray. Reporting the same trial again at a rung replaces its values."""

    def __init__(self, schedule: Schedule) -> None:
        self._reduction = schedule.reduction
        self._rungs: dict[int, dict[int, list[float]]] = {}
        epoch = schedule.grace
        while epoch < schedule.max_epochs:
            self._rungs[epoch] = {}
            epoch *= schedule.reduction

    def goes_on(self, number: int, epoch: int, losses: list[float]) -> bool:
        """Record a trial's objectives, all to be minimised, and say whether it is worth more epochs."""
        rung = self._rungs.get(epoch)
        if rung is None:
            return True
        rung[number] = losses
        if len(rung) <= self._reduction:
            return True
        numbers = list(rung)
        ranks = pareto_ranks(np.array([rung[known] for known in numbers]))
        rank = ranks[numbers.index(number)]
        better = int((ranks < rank).sum())
        return rank == 1 or better < math.ceil(len(numbers) / self._reduction)
