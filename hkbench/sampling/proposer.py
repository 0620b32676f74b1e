"""The search's own sampler: what is expected to add most to the frontier for each epoch that it takes.

For spaces in which one objective is trained for and the others are known beforehand, which is what a search
for a small, fast and accurate network is. From the learning curves so far a Gaussian process says what any
point would reach (`foresight`); from that and its known costs follows the volume that it is expected to add
(`improvement`). Trials that are under way count as if they had reached what is expected of them, so that
those which start together differ. A trial that was stopped stays among the candidates, at the price of the
epochs that it lacks: it is thawed when nothing else promises as much (freeze-thaw Bayesian optimisation,
arXiv 1406.3896).
"""

import math
from collections.abc import Callable, Collection, Mapping
from heapq import nsmallest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hkbench.analysis.frontier import non_dominated
from hkbench.sampling.candidates import Candidates
from hkbench.sampling.foresight import Foresight, Past
from hkbench.sampling.improvement import Frontier
from hkbench.spaces.space import STATIC, Space
from hkbench.study.points import Proposal

FIRST_POINTS = 6
LEADERS = 6
MOST_FROZEN = 512
"""So many stopped trials are looked at, those that were best when they stopped."""

CostsOf = Callable[[Mapping[str, Any]], Mapping[str, float] | None]
"""Point → its known costs by objective; None where it breaks a limit or can't be built."""


def unsuited(space: Space) -> str | None:
    """Return why the sampler can't propose points of a space; None if it can."""
    trained = [name for name in space.objectives if name not in STATIC]
    if len(trained) != 1:
        return f"it takes one objective that is trained for, and {space.name} has {len(trained)}"
    if space.architectures() is None:
        return f"it takes a space whose architectures can be listed, and {space.name} has too many"
    return None


class FrontierProposer:
    """Asked for the next point.

    Args:
        space: whose points; `unsuited` must have nothing against it.
        foresight: is told of every trial.
        costs: of a point, known beforehand.
        seed: of everything random.
    """

    def __init__(self, space: Space, foresight: Foresight, costs: CostsOf, seed: int) -> None:
        self._space = space
        self._candidates = Candidates(space)
        self._foresight = foresight
        self._costs = costs
        self._rng = np.random.default_rng(seed)
        self._static = [name for name in space.objectives if name in STATIC]
        (self._trained,) = (name for name in space.objectives if name not in STATIC)

    def propose(self, tried: Collection[str]) -> Proposal | None:
        """Return the most promising point or stopped trial; None when nothing is left.

        Args:
            tried: keys of the points that the study has had, which aren't proposed anew.
        """
        trials = self._foresight.trials
        found = self._candidates.untried(self._leaders(), tried, self._rng)
        fresh = [point for point in found if self._costs(point) is not None]
        if self._foresight.blind or len(trials) < min(FIRST_POINTS, len(fresh)):
            return self._spread(fresh)
        frontier = self._frontier()
        frozen = self._worth_thawing(frontier)
        if not fresh and not frozen:
            return None
        last = self._foresight.last_epoch
        left = [last] * len(fresh) + [last - len(past.curve) for past in frozen.values()]
        best = int(np.argmax(self._gains(fresh, list(frozen.values()), frontier) / np.array(left)))
        if best < len(fresh):
            return Proposal(params=fresh[best])
        number = list(frozen)[best - len(fresh)]
        return Proposal(params=dict(frozen[number].params), thaws=number)

    def _worth_thawing(self, frontier: list[Past]) -> dict[int, Past]:
        """Return the stopped trials that may, after all, end on the frontier, by number."""
        trials = self._foresight.trials.items()
        found = ((number, past) for number, past in trials if past.state == "stopped" and past.curve)
        stopped = dict(nsmallest(MOST_FROZEN, found, key=lambda each: each[1].curve[-1]))
        if not stopped or not frontier:
            return stopped
        best = self._foresight.least_losses(list(stopped.values()))
        known = np.array([[past.curve[-1], *self._cost_row(past.params)] for past in frontier])

        def beaten(loss: float, past: Past) -> bool:
            return bool((known <= [loss, *self._cost_row(past.params)]).all(axis=1).any())

        return {
            number: past
            for loss, (number, past) in zip(best, stopped.items(), strict=True)
            if not beaten(float(loss), past)
        }

    def _frontier(self) -> list[Past]:
        """The complete trials that no other beats: all that there is to improve on."""
        complete = [past for past in self._foresight.known if past.state == "complete"]
        if not complete:
            return []
        rows = np.array([[past.curve[-1], *self._cost_row(past.params)] for past in complete])
        return [past for past, best in zip(complete, non_dominated(rows), strict=True) if best]

    def _leaders(self) -> list[dict[str, Any]]:
        """Return the points of the best trials so far, near which others are looked for."""
        found = sorted(self._foresight.known, key=lambda past: past.curve[-1])
        return [past.params for past in found[:LEADERS]]

    def _spread(self, points: list[dict[str, Any]]) -> Proposal | None:
        """Return a point at random, of an architecture that fewest trials have had."""
        if not points:
            return None
        had = [self._cost_row(past.params) for past in self._foresight.trials.values()]
        counts = [had.count(self._cost_row(point)) for point in points]
        fewest = np.flatnonzero(np.array(counts) == min(counts))
        return Proposal(params=points[int(self._rng.choice(fewest))])

    def _gains(
        self, fresh: list[dict[str, Any]], frozen: list[Past], complete: list[Past]
    ) -> NDArray[np.float64]:
        """Return the volume that each is expected to add to the frontier, float (fresh and frozen,)."""
        live = self._foresight.live
        points = [*fresh, *(past.params for past in frozen)]
        mean, deviation = self._foresight.expected(fresh, [*frozen, *live])
        costs = self._scaled_costs([*points, *(past.params for past in (*live, *complete))])
        frontier = Frontier.of(
            losses=np.array([*mean[len(points) :], *(past.curve[-1] for past in complete)]),
            costs=costs[len(points) :],
            worst_loss=self._worst_loss(),
        )
        gains = np.zeros(len(points))
        rows, which = np.unique(costs[: len(points)], axis=0, return_inverse=True)
        for number, row in enumerate(rows):
            alike = np.flatnonzero(which.reshape(-1) == number)
            gains[alike] = frontier.expected_improvement(row, mean[alike], deviation[alike])
        return gains

    def _worst_loss(self) -> float:
        """Return the loss from which on nothing counts: the worst so far, or the limit."""
        worst = max(max(past.curve) for past in self._foresight.known)
        limit = self._space.constraints.get(self._trained)
        if limit is None:
            return worst
        return min(worst, -limit.least if self._space.objectives[self._trained] == "maximize" else limit.most)

    def _cost_row(self, point: Mapping[str, Any]) -> tuple[float, ...]:
        costs = self._costs(point) or {}
        return tuple(math.log(max(costs.get(name, math.nan), 1e-9)) for name in self._static)

    def _scaled_costs(self, points: list[dict[str, Any]]) -> NDArray[np.float64]:
        """Return the logarithms of known costs, scaled to [0, 1] over these points, float (points, costs)."""
        rows = np.array([self._cost_row(point) for point in points]).reshape(len(points), len(self._static))
        low, span = rows.min(axis=0), np.ptp(rows, axis=0)
        scaled: NDArray[np.float64] = np.divide(rows - low, span, out=np.zeros_like(rows), where=span > 0)
        return scaled
