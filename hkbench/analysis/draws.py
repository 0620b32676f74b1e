"""Intervals of the metrics, by drawing pictures, or whole groups of them, again and again."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from hkbench.analysis.intervals import bootstrap
from hkbench.analysis.metrics import Terms, metrics_from


def metric_ends(
    terms: Terms, groups: Sequence[str] | None, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the lower and upper ends of 95 % intervals, each float64 (7,) as `metrics_from` has them.

    As many groups as there are are drawn with replacement (cluster bootstrap: Davison & Hinkley 1997,
    section 3.8), or as many pictures where there are no groups. None where there is but one to draw.
    """
    units = units_of(groups, len(terms.values))
    count = int(units.max()) + 1
    return bootstrap(metrics_of_draws(terms, units), count, seed=seed) if count > 1 else None


def units_of(groups: Sequence[str] | None, pictures: int) -> NDArray[np.int64]:
    """Number what is drawn as one: the group of each picture, or the picture where there are no groups.

    Pictures of one group show one product, so a network tends to have all of them right or none. Drawn singly
    they would count as so many witnesses, and the intervals would be too narrow.

    Returns:
        int64 (pictures,), in [0, units).
    """
    if groups is None:
        return np.arange(pictures)
    numbers: NDArray[np.int64] = np.unique(np.asarray(groups), return_inverse=True)[1]
    return numbers


def metrics_of_draws(
    terms: Terms, units: NDArray[np.int64]
) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    """Return a function from drawn units, int64 (draws, units), to their metrics, float64 (7, draws).

    Args:
        terms: what each of n pictures adds to the metrics' sums.
        units: int64 (n,), the unit of each picture, in [0, units).
    """
    from scipy.sparse import csr_array

    # Sparse, since a picture adds to 9 of the sums, of which there are thousands for a thousand classes.
    rows = np.broadcast_to(units[:, None], terms.places.shape).ravel()
    by_unit = csr_array(
        (terms.values.ravel(), (rows, terms.places.ravel())), shape=(int(units.max()) + 1, terms.width)
    )

    def metrics(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        return metrics_from(_times_drawn(drawn) @ by_unit, terms.classes)

    return metrics


def _times_drawn(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Count how often each of n was drawn: float64 (draws, n) from places (draws, n)."""
    draws, n = drawn.shape
    flat = (np.arange(draws)[:, None] * n + drawn).ravel()
    return np.bincount(flat, minlength=draws * n).reshape(draws, n).astype(np.float64)
