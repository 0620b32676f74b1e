"""How much a trial can be expected to add to the frontier, where all but one of its objectives are known
beforehand.

The volume that a point adds to a frontier (the hypervolume improvement, Emmerich et al., CEC 2006) is an
expectation over every objective in general. Here bytes, parameters, work and latency are known before the
training, so that it is a step function of the one that is trained for, and its expectation under a normal
distribution a sum of closed terms.
"""

from dataclasses import dataclass
from typing import Self

import moocore
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from hkbench.analysis.frontier import non_dominated

ROOM = 0.1
"""The reference lies so far behind the worst known cost, in shares of the range: what is worst in one
objective can still be worth having.
"""


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """Points to improve on: `losses` float (n,) of the trained objective, `costs` float (n, k) in [0, 1 +
    ROOM].
    """

    losses: NDArray[np.float64]
    costs: NDArray[np.float64]
    worst_loss: float

    @classmethod
    def of(cls, *, losses: NDArray[np.float64], costs: NDArray[np.float64], worst_loss: float) -> Self:
        """Return the frontier of trials, without those that another beats: they change no area."""
        if len(losses):
            best = non_dominated(np.column_stack([losses, costs]))
            losses, costs = losses[best], costs[best]
        return cls(losses=losses, costs=costs, worst_loss=worst_loss)

    def areas(self, costs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what a point of these costs would have for itself, by its loss.

        Args:
            costs: float (k,).

        Returns:
            Losses at which it shrinks, ascending, and the area below each and behind the last: float (n,),
            (n + 1,).
        """
        order = np.argsort(self.losses)
        losses, others = self.losses[order], np.maximum(self.costs[order], costs)
        reference = np.full(len(costs), 1 + ROOM)
        whole = float(np.prod(reference - costs))
        if not len(costs):
            return losses, np.array([1.0] + [0.0] * len(losses))
        taken = [moocore.hypervolume(others[: count + 1], ref=reference) for count in range(len(losses))]
        return losses, np.maximum(whole - np.array([0.0, *taken]), 0.0)

    def expected_improvement(
        self, costs: NDArray[np.float64], mean: NDArray[np.float64], deviation: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the expected added volume of trials of one architecture, float (m,).

        Args:
            costs: float (k,), the same for all.
            mean: float (m,), of the trained objective as a loss.
            deviation: float (m,), above 0.
        """
        losses, areas = self.areas(costs)
        edges = np.minimum(np.append(losses, self.worst_loss), self.worst_loss)
        z = (edges[None, :] - mean[:, None]) / deviation[:, None]
        below = deviation[:, None] * (z * ndtr(z) + np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))
        pieces = np.diff(below, axis=1, prepend=0.0)
        expected: NDArray[np.float64] = pieces @ areas
        return expected
