"""Which points no other beats, how deep the others lie, and how much the best ones cover.

Everywhere a row is a point and a column an objective that is minimised.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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
    for row in np.flatnonzero(mask):
        no_worse = (values <= values[row]).all(axis=1)
        better = (values < values[row]).any(axis=1)
        mask[row] = not (no_worse & better).any()
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


def hypervolume(values: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Return the volume that the points dominate below `reference`; exact, made for k ≤ 4 and n ≤ 200.

    By slices along the last objective (While et al. 2006, "A faster algorithm for calculating
    hypervolume"). Points that do not lie below the reference in every objective, and rows with a NaN,
    add nothing.

    Args:
        values: float (n, k), all k minimised.
        reference: float (k,), the worst value of each objective that still counts.
    """
    below = (values < reference).all(axis=1)
    return _sliced(values[below].astype(np.float64), np.asarray(reference, dtype=np.float64))


def _sliced(points: Floats, reference: Floats) -> float:
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(reference[0] - points.min())
    points = points[non_dominated(points)]
    points = points[np.argsort(points[:, -1])]
    heights = np.diff(np.append(points[:, -1], reference[-1]))
    return float(
        sum(
            height * _sliced(points[: above + 1, :-1], reference[:-1])
            for above, height in enumerate(heights)
            if height > 0
        )
    )
