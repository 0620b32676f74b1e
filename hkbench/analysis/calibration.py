"""Whether a network's confidence is its share of right answers, and the temperature that brings it nearer."""

import math

import numpy as np
from numpy.typing import NDArray

BINS = 15
HIGHEST_TEMPERATURE = 100.0


def expected_calibration_error(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Return the mean gap between confidence and accuracy over 15 bins of equal width; in [0, 1].

    Guo et al. 2017, "On Calibration of Modern Neural Networks", equations 2 and 3: each bin counts by its
    pictures, and holds its upper edge.

    Args:
        confidence: float (n,), the largest probability of each picture.
        right: bool (n,), whether the answer was right.
    """
    gaps = np.bincount(confidence_bins(confidence), weights=confidence - right)
    return float(np.abs(gaps).sum() / len(confidence))


def confidence_bins(confidence: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the bin of each confidence: int64 (n,), in [0, 15)."""
    inner_edges = np.linspace(0, 1, BINS + 1)[1:-1]
    bins: NDArray[np.int64] = np.digitize(confidence, inner_edges, right=True).astype(np.int64)
    return bins


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float | None:
    """Return the T at which the log loss of softmax(logits / T) is least (Guo et al., section 4.2).

    The log loss is convex in 1/T, so there is one minimum, sought between 1/100 and 100. None where the loss
    falls all the way to an end: with every answer right it falls for ever as T goes to 0, with answers worse
    than guessing as T grows. Where T changes nothing, as with equal logits, it is 1.

    Args:
        logits: float (n, classes).
        labels: int (n,), in [0, classes).
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    exact = logits.astype(np.float64)
    pictures = np.arange(len(labels))

    def log_loss(log_temperature: float) -> float:
        scaled = log_softmax(exact / math.exp(log_temperature), axis=1)
        return float(-scaled[pictures, labels].mean())

    end, unscaled = math.log(HIGHEST_TEMPERATURE), log_loss(0.0)
    found = minimize_scalar(log_loss, bounds=(-end, end), method="bounded", options={"xatol": 1e-5})
    # The search stops a hair beside an end, or before it where the loss has rounded to 0: so ask the ends.
    if min(log_loss(-end), log_loss(end)) <= found.fun < unscaled:
        return None
    return float(math.exp(found.x)) if found.fun < unscaled else 1.0
