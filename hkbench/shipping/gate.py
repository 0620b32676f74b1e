"""What a narrower file may cost: half a point of accuracy, and not more than one and a half by chance."""

import numpy as np
from numpy.typing import NDArray

from hkbench.analysis.intervals import paired_difference
from hkbench.export.onnx import RejectedError
from hkbench.store.records import AccuracyLoss

MOST_LOST = 0.005
MOST_LOST_BY_CHANCE = 0.015
ROUNDING = 1e-9


class CollapsedError(RejectedError):
    """A narrower file that lost too much to be shipped."""


def accuracy_lost(
    before: NDArray[np.float32], after: NDArray[np.float32], labels: NDArray[np.int64]
) -> AccuracyLoss:
    """Return what was lost from one file to another on the same pictures, with its 95 % interval.

    `before` and `after` are logits, float32 (N, classes), as they are stored: rounded to float16.
    """
    right = [logits.astype(np.float16).argmax(axis=1) == labels for logits in (before, after)]
    found = paired_difference(right[0], right[1])
    return AccuracyLoss(estimate=found.estimate, low=found.low, high=found.high)


def passes(lost: AccuracyLoss) -> bool:
    """Whether a narrower file may take the float32 file's place."""
    return keeps(lost) and lost.high <= MOST_LOST_BY_CHANCE


def keeps(lost: AccuracyLoss) -> bool:
    """Whether what was counted is within half a point, whatever chance may have to do with it."""
    return lost.estimate <= MOST_LOST + ROUNDING


def said(lost: AccuracyLoss) -> str:
    """Return a loss in words: `0.32 points (−0.10 to 0.74)`."""
    return f"{lost.estimate * 100:.2f} points ({lost.low * 100:.2f} to {lost.high * 100:.2f})"
