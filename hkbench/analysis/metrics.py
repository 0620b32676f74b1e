"""How good a network's answers are: six figures from logits and labels, and which way each is better."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hkbench.analysis.calibration import expected_calibration_error
from hkbench.store.records import Metrics

TOP = 5
DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {
    "accuracy": "maximize",
    "top5": "maximize",
    "balanced_accuracy": "maximize",
    "macro_f1": "maximize",
    "log_loss": "minimize",
    "calibration_error": "minimize",
}
METRICS = tuple(DIRECTIONS)


def metrics_of(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Metrics:
    """Return each of `METRICS`: shares in [0, 1], log_loss in nats; docs/metrics.md has the formulas.

    Of classes with equal logits the first is the answer, and the first come first in the top five; with
    five classes or fewer top5 is 1. A class without pictures has no recall, one that is neither among the
    labels nor among the answers no F1: they are left out of the means. The log loss is exact however
    small the label's probability is (scikit-learn's own cuts it off at the float's epsilon).

    Args:
        logits: float (n, classes), n ≥ 1; they are rounded to float16 first, as they are stored.
        labels: int (n,), in [0, classes).

    Raises:
        ValueError: there is no picture, or the two differ in length.
    """
    # Imported here: scikit-learn takes most of a second, which `hkbench --help` must not wait for.
    from scipy.special import log_softmax
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    stored = as_stored(logits, labels)  # (n, classes)
    answers = stored.argmax(axis=1)
    _, recall, f1, _ = precision_recall_fscore_support(
        labels, answers, labels=np.arange(stored.shape[1]), zero_division=np.nan
    )
    log_shares = log_softmax(stored, axis=1)
    confidence = np.exp(log_shares.max(axis=1))
    return {
        "accuracy": float(accuracy_score(labels, answers)),
        "top5": _top5(stored, labels),
        "balanced_accuracy": float(np.nanmean(recall)),
        "macro_f1": float(np.nanmean(f1)),
        "log_loss": float(-log_shares[np.arange(len(labels)), labels].mean()),
        "calibration_error": expected_calibration_error(confidence, answers == labels),
    }


def as_stored(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the logits with float16's precision, so that a metric is the same before and after storing.

    Raises:
        ValueError: there is no picture, or logits and labels differ in length.
    """
    if len(logits) != len(labels) or not len(labels):
        raise ValueError(
            f"metrics need a label for each of at least one picture, not {len(labels)} for {len(logits)}"
        )
    return logits.astype(np.float16).astype(np.float64)


def _top5(stored: NDArray[np.float64], labels: NDArray[np.integer]) -> float:
    from sklearn.metrics import top_k_accuracy_score

    classes = stored.shape[1]
    if classes <= TOP:
        return 1.0
    # scikit-learn lets the last of equal logits come first, so the classes are counted from the end.
    return float(
        top_k_accuracy_score(classes - 1 - labels, stored[:, ::-1], k=TOP, labels=np.arange(classes))
    )
