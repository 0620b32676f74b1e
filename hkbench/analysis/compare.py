"""Two models on the same pictures: is one more often right than the other, or may it be chance?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hkbench.analysis.intervals import Interval, paired_difference
from hkbench.analysis.predictions import PredictionBlock, correct
from hkbench.errors import UsageError

NO_DIFFERENCE = "no difference shown"


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """How many pictures only a, and only b, had right; and how likely such a split is by chance."""

    only_a: int
    only_b: int
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """a against b: `difference` is accuracy of a − accuracy of b, a share in [−1, 1].

    `verdict` names the more accurate one, or says that no difference is shown, which is so where the interval
    holds 0. It goes by the interval, which may hold 0 by a hair where McNemar's p is just below 0.05.
    """

    mcnemar: McNemar
    difference: Interval
    verdict: str


def mcnemar(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> McNemar:
    """Test whether two models are equally often right on the same pictures (McNemar 1947, exact, two-sided).

    If they are, a picture that only one has right is as likely a's as b's, so that the p-value is that of
    `only_a` heads among `only_a + only_b` tosses of a fair coin; 1 where there is no such picture.

    Args:
        correct_a: bool (n,), whether a was right on each picture.
        correct_b: bool (n,), whether b was right on the same pictures in the same order.

    Raises:
        ValueError: the two don't have the same length.
    """
    if correct_a.shape != correct_b.shape:
        raise ValueError(f"needs the same pictures for both, not {correct_a.shape} and {correct_b.shape}")
    from scipy.stats import binomtest

    only_a = int((correct_a & ~correct_b).sum())
    only_b = int((~correct_a & correct_b).sum())
    discordant = only_a + only_b
    p_value = float(binomtest(only_a, discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(only_a=only_a, only_b=only_b, p_value=p_value)


def compare(a: PredictionBlock, b: PredictionBlock) -> Comparison:
    """Compare two models' answers to the same pictures of one part.

    Raises:
        UsageError: the pictures, or their order or labels, are not the same.
    """
    if list(a.picture_ids) != list(b.picture_ids) or not np.array_equal(a.labels, b.labels):
        raise UsageError(
            f"A comparison needs answers to the same pictures; {a.model_id} has {len(a.labels)} of {a.part}, "
            f"{b.model_id} {len(b.labels)} of {b.part}, and they differ. Score both on one part of one split."
        )
    right_a, right_b = correct(a), correct(b)
    difference = paired_difference(right_a, right_b)
    return Comparison(
        mcnemar=mcnemar(right_a, right_b),
        difference=difference,
        verdict=_verdict(a.model_id, b.model_id, difference),
    )


def _verdict(a: str, b: str, difference: Interval) -> str:
    if difference.holds_zero:
        return NO_DIFFERENCE
    return f"{a} is more accurate than {b}" if difference.estimate > 0 else f"{b} is more accurate than {a}"
