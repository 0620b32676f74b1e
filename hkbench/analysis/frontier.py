"""Which points no other beats, and how deep the others lie.

Everywhere a row is a point and a column an objective that is minimised.
"""

import moocore
import numpy as np
from numpy.typing import NDArray


def non_dominated(values: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Mark the rows that no other row beats: none is at least as good everywhere and better somewhere.

    Equal rows don't beat each other, so all of them are marked. A row with a NaN is never marked and
    beats nothing.

    Args:
        values: float (n, k), all k minimised.

    Returns:
        bool (n,).
    """
    mask: NDArray[np.bool_] = ~np.isnan(values).any(axis=1)
    if mask.any():
        mask[mask] = moocore.is_nondominated(values[mask], keep_weakly=True)
    return mask


def pareto_ranks(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """Peel the frontiers off one by one: rank 1 is the frontier, 2 the frontier of the rest, and so on.

    Rows with a NaN share one rank, a step behind the last.

    Args:
        values: float (n, k), all k minimised.

    Returns:
        int64 (n,), from 1.
    """
    ranks = np.zeros(len(values), dtype=np.int64)
    left = np.flatnonzero(~np.isnan(values).any(axis=1))
    rank = 1
    while left.size:
        front = non_dominated(values[left])
        ranks[left[front]] = rank
        left = left[~front]
        rank += 1
    ranks[ranks == 0] = rank
    return ranks
