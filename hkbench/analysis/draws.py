"""The metrics of many draws of the same pictures at once, as a bootstrap asks for them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hkbench.analysis.calibration import BINS, confidence_bins
from hkbench.analysis.metrics import TOP


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What the metrics need of each picture, in arrays (n,), so that drawing pictures is indexing.

    `means` are float64 (m, n): values of which a metric is the plain mean. `gap` is confidence − rightness.
    """

    classes: int
    labels: NDArray[np.integer]
    answers: NDArray[np.integer]
    means: NDArray[np.float64]
    bins: NDArray[np.int64]
    gap: NDArray[np.float64]


def pictures_of(
    stored: NDArray[np.float64], labels: NDArray[np.integer], cost: NDArray[np.float64] | None
) -> Pictures:
    """Return what the metrics need of logits (n, classes), labels (n,) and costs (n,), if there are any."""
    from scipy.special import log_softmax

    classes = stored.shape[1]
    answers = stored.argmax(axis=1)
    log_shares = log_softmax(stored, axis=1)
    confidence = np.exp(log_shares.max(axis=1))
    own = np.take_along_axis(stored, labels[:, None], axis=1)  # (n, 1)
    ahead = (stored > own) | ((stored == own) & (np.arange(classes) < labels[:, None]))  # (n, classes)
    right = answers == labels
    means = [right, ahead.sum(axis=1) < TOP, -log_shares[np.arange(len(labels)), labels]]
    return Pictures(
        classes=classes,
        labels=labels,
        answers=answers,
        means=np.array(means if cost is None else [*means, cost], dtype=np.float64),
        bins=confidence_bins(confidence),
        gap=confidence - right,
    )


def metrics_of_draws(pictures: Pictures, drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the metrics, and the cost where there is one, in the order of `METRICS`: float64 (k, draws).

    It is `metrics_of` for many draws at once. `drawn` is int64 (draws, n), places of pictures.
    """
    labels = pictures.labels[drawn]
    right = pictures.means[0][drawn]
    support = _counts(labels, pictures.classes)  # (draws, classes), as the next two
    answered = _counts(pictures.answers[drawn], pictures.classes)
    right_by_class = _counts(labels, pictures.classes, right)
    accuracy, top5, log_loss, *cost = pictures.means[:, drawn].mean(axis=-1)
    gaps = _counts(pictures.bins[drawn], BINS, pictures.gap[drawn])
    return np.array(
        [
            accuracy,
            top5,
            _mean_share(right_by_class, support),
            _mean_share(2 * right_by_class, support + answered),
            log_loss,
            np.abs(gaps).sum(axis=-1) / drawn.shape[-1],
            *cost,
        ]
    )


def _counts(
    groups: NDArray[np.integer], size: int, weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Count, or add up the weights of, each row's members of each group in [0, size): (rows, size)."""
    rows = np.arange(len(groups))[:, None] * size
    flat = None if weights is None else weights.ravel()
    sums = np.bincount((rows + groups).ravel(), flat, minlength=len(groups) * size)
    return sums.reshape(-1, size).astype(np.float64)


def _mean_share(parts: NDArray[np.float64], wholes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the classes of part / whole, without those whose whole is 0: (draws,)."""
    shares = np.divide(parts, wholes, out=np.zeros(parts.shape), where=wholes > 0)
    means: NDArray[np.float64] = shares.sum(axis=-1) / (wholes > 0).sum(axis=-1)
    return means
