"""A smooth surface through gains that were measured at points of a square, and how sure of it one can be."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 256  # a power of two, as Sobol's sequence wants
NEGLIGIBLE = 1e-3
"""Of the largest weight: what has less doesn't show in an interval."""
SMALLEST_VARIANCE = 1e-14
"""Of gains that are all equal to the last digit."""
BISECTIONS = 16
LENGTH_MEDIAN, LENGTH_SPREAD = 0.5, 0.75
RATIO_MEDIAN, RATIO_SPREAD = 1.0, 1.0
"""Priors, all log-normal: the lengths over which the gain changes, in sides of the square, and how far it
varies over the square, in standard deviations of the noise."""


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The gain at each point that was asked for, with the ends of its interval; float64 (points,) each."""

    estimate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Draw:
    """One choice of lengths and ratio: its weight, and Student's t at each point."""

    log_weight: float
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]


def surface(
    points: NDArray[np.float64],
    gains: NDArray[np.float64],
    noise: NDArray[np.float64],
    asked: NDArray[np.float64],
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Surface:
    """Return the gain at the points asked for, each interval by itself.

    A Gaussian process of unknown mean and Matérn 5/2 covariance (Rasmussen & Williams 2006, chapter 4).
    Mean and variance are integrated out by reference priors, which gives Student's t with n − 1 degrees of
    freedom; lengths and the ratio of signal to noise over 256 points of their priors (Bayesian kriging,
    Handcock & Stein 1993, Technometrics 35). One best choice of these, as scikit-learn makes it, would give
    intervals that are too narrow: a search leaves a few dozen trials.

    Args:
        points: float64 (n, 2), in [0, 1].
        gains: float64 (n,), n at least 4.
        noise: float64 (n, n), the covariance of the gains' errors up to a common factor.
        asked: float64 (m, 2), in [0, 1].
        level: how sure an interval is.
        seed: of the points of the priors.
    """
    draws = list(_draws(points, gains, noise, asked, seed))
    most = max(draw.log_weight for draw in draws)
    kept = [draw for draw in draws if draw.log_weight > most + np.log(NEGLIGIBLE)]
    weights = np.exp([draw.log_weight - most for draw in kept])
    weights /= weights.sum()
    means = np.array([draw.mean for draw in kept])  # (kept, m)
    scales = np.array([draw.scale for draw in kept])
    low, high = (
        _quantile(share, weights, means, scales, len(gains) - 1)
        for share in ((1 - level) / 2, (1 + level) / 2)
    )
    return Surface(estimate=weights @ means, low=low, high=high)


def _draws(
    points: NDArray[np.float64],
    gains: NDArray[np.float64],
    noise: NDArray[np.float64],
    asked: NDArray[np.float64],
    seed: int,
) -> Iterator[_Draw]:
    from scipy.stats import norm, qmc  # not with the module: it takes half a second

    normal = norm.ppf(qmc.Sobol(3, rng=np.random.default_rng(seed)).random(DRAWS))
    lengths = LENGTH_MEDIAN * np.exp(LENGTH_SPREAD * normal[:, :2])
    ratios = RATIO_MEDIAN * np.exp(RATIO_SPREAD * normal[:, 2])
    for length, ratio in zip(lengths, ratios, strict=True):
        signal = ratio**2
        covariance = signal * _matern(points / length, points / length) + noise
        between = signal * _matern(points / length, asked / length)  # (n, m)
        yield _conditioned(gains, covariance, between, signal)


def _conditioned(
    gains: NDArray[np.float64], covariance: NDArray[np.float64], between: NDArray[np.float64], signal: float
) -> _Draw:
    """Return Student's t at the points asked for, and how well these lengths and ratio explain the gains.

    Rasmussen & Williams 2006, section 2.7, with a constant as the only basis function, of a vague prior.
    """
    from scipy.linalg import solve_triangular

    factor = np.linalg.cholesky(covariance)
    whitened = solve_triangular(
        factor, np.column_stack([np.ones(len(gains)), gains, between]), lower=True, check_finite=False
    )
    ones, values, crossed = whitened[:, 0], whitened[:, 1], whitened[:, 2:]
    precision = ones @ ones
    mean = (ones @ values) / precision
    rest = values - mean * ones
    freedom = len(gains) - 1
    squares = max(float(rest @ rest), SMALLEST_VARIANCE)
    of_mean = (1 - crossed.T @ ones) ** 2 / precision
    factors = np.maximum(signal - np.square(crossed).sum(axis=0) + of_mean, 0.0)
    return _Draw(
        log_weight=float(
            -np.log(np.diag(factor)).sum() - 0.5 * np.log(precision) - 0.5 * freedom * np.log(squares)
        ),
        mean=mean + crossed.T @ rest,
        scale=np.sqrt(np.maximum(squares / freedom * factors, SMALLEST_VARIANCE)),
    )


def _matern(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial.distance import cdist

    distance = np.sqrt(5.0) * cdist(a, b)
    found: NDArray[np.float64] = (1 + distance + distance**2 / 3) * np.exp(-distance)
    return found


def _quantile(
    share: float,
    weights: NDArray[np.float64],
    means: NDArray[np.float64],
    scales: NDArray[np.float64],
    freedom: int,
) -> NDArray[np.float64]:
    """Return the quantile of a mixture of Student's t at each point, by halving what holds it."""
    from scipy.special import stdtr, stdtrit

    ends = means + scales * stdtrit(freedom, share)  # (draws, m): the mixture's lies between theirs
    low, high = ends.min(axis=0), ends.max(axis=0)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        below = weights @ stdtr(freedom, (middle - means) / scales) < share
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    found: NDArray[np.float64] = (low + high) / 2
    return found
