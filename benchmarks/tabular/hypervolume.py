"""How much of the space of losses is beaten, as a share: moocore's hypervolume, kept up as points come."""

import moocore
import numpy as np
from numpy.typing import NDArray


def hypervolume(losses: NDArray[np.float64], *, reference: float) -> float:
    """Return the share of the box from 0 to the reference point that these points dominate.

    Args:
        losses: float (n, objectives), scaled as `Table.scaled` does; less is better, 0 is the table's best. A
            row below 0 counts as 0, one with a value that isn't finite as not there.
        reference: the reference point's value in every objective.

    Returns:
        A number from 0 (no point beats the reference point) to 1.
    """
    inside = np.clip(losses[np.isfinite(losses).all(axis=1)], 0.0, None)
    if not len(inside):
        return 0.0
    return float(moocore.hypervolume(inside, ref=reference)) / reference ** inside.shape[1]


class GrowingHypervolume:
    """The hypervolume of points that come one at a time; one that is dominated costs no computation."""

    def __init__(self, reference: float) -> None:
        self._reference = reference
        self._frontier: list[NDArray[np.float64]] = []
        self.value = 0.0

    def add(self, losses: NDArray[np.float64]) -> float:
        """Take a point, float (objectives,), and return the share that is dominated now."""
        if not np.isfinite(losses).all() or any((kept <= losses).all() for kept in self._frontier):
            return self.value
        self._frontier = [kept for kept in self._frontier if not (losses <= kept).all()]
        self._frontier.append(losses)
        self.value = hypervolume(np.stack(self._frontier), reference=self._reference)
        return self.value
