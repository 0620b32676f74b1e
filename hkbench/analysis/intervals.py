"""How far a share, or a difference of two shares, may be from what was counted."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
DRAWN_AT_ONCE = 100_000  # units: what is computed from them stays in a core's cache


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its interval, in the unit of the estimate."""

    estimate: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """Whether 0 lies inside, so that no difference has been shown."""
        return self.low <= 0.0 <= self.high


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Return Wilson's score interval of a share (Wilson 1927), in [0, 1].

    Raises:
        ValueError: `n` is below 1, or `successes` isn't in 0..n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a share needs 0 <= successes <= n and n >= 1, not {successes} of {n}")
    from scipy.stats import binomtest

    found = binomtest(successes, n).proportion_ci(level, method="wilson")
    return Interval(estimate=successes / n, low=float(found.low), high=float(found.high))


def paired_difference(
    correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_], level: float = 0.95
) -> Interval:
    """Return accuracy of a minus accuracy of b on the same pictures, with its interval, in [−1, 1].

    Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based
    on paired data", method 10: Wilson's intervals of both, joined with the correlation of the answers.

    Args:
        correct_a: bool (n,), whether a was right on each picture.
        correct_b: bool (n,), whether b was right on the same pictures in the same order.
        level: how sure the interval is.

    Raises:
        ValueError: the two don't have the same length of at least 1.
    """
    if correct_a.shape != correct_b.shape or correct_a.size < 1:
        raise ValueError(f"needs the same pictures for both, not {correct_a.shape} and {correct_b.shape}")
    n = correct_a.size
    a = wilson(int(correct_a.sum()), n, level)
    b = wilson(int(correct_b.sum()), n, level)
    correlation = _newcombe_correlation(correct_a, correct_b)
    down_a, up_a = a.estimate - a.low, a.high - a.estimate
    down_b, up_b = b.estimate - b.low, b.high - b.estimate
    below = math.sqrt(max(0.0, down_a**2 - 2 * correlation * down_a * up_b + up_b**2))
    above = math.sqrt(max(0.0, up_a**2 - 2 * correlation * up_a * down_b + down_b**2))
    difference = a.estimate - b.estimate
    return Interval(estimate=difference, low=max(-1.0, difference - below), high=min(1.0, difference + above))


def _newcombe_correlation(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> float:
    """Return the phi coefficient, made smaller where it is positive by Newcombe's continuity correction."""
    n = correct_a.size
    both = int((correct_a & correct_b).sum())
    only_a = int((correct_a & ~correct_b).sum())
    only_b = int((~correct_a & correct_b).sum())
    neither = n - both - only_a - only_b
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    if margins == 0:
        return 0.0
    agreement = float(both * neither - only_a * only_b)
    if agreement > 0:
        agreement = max(agreement - n / 2, 0.0)
    return agreement / math.sqrt(margins)


def bootstrap(
    statistics: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    units: int,
    *,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower and upper ends of percentile bootstrap intervals (Efron 1979), each float64 (k,).

    Units, which are pictures or groups of them, are drawn with replacement, 1,000 times as many as there are.

    Args:
        statistics: from drawn places, int64 (draws, units), to k values a draw, float64 (k, draws).
        units: how many there are, at least 2.
        seed: the draws are the same for the same seed.
        level: how sure the intervals are.

    Raises:
        ValueError: there are fewer than two units.
    """
    from scipy import stats

    def drawn(places: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:  # noqa: ARG001 (SciPy names it)
        values = statistics(places.reshape(-1, units))  # (k, draws)
        return values.reshape(
            -1, *places.shape[:-1]
        )  # SciPy asks for the sample itself without an axis of draws

    found = stats.bootstrap(
        (np.arange(units),),
        drawn,
        n_resamples=RESAMPLES,
        batch=max(1, DRAWN_AT_ONCE // units),
        vectorized=True,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return found.low, found.high
