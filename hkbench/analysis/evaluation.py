"""All that is said of a file's answers on one part: metrics, intervals, classes, calibration, cost."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hkbench.analysis.calibration import expected_calibration_error, fit_temperature
from hkbench.analysis.draws import metrics_of_draws, pictures_of
from hkbench.analysis.intervals import Interval, bootstrap
from hkbench.analysis.metrics import METRICS, as_stored, metrics_of
from hkbench.analysis.misclassification import MisclassificationCosts
from hkbench.analysis.predictions import PredictionBlock
from hkbench.store.records import Metrics, PartMetrics

COST = "cost_weighted_error"


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """Class by class, each float64 (classes,), in [0, 1]; `support`, the pictures of a class, is int64.

    Precision is NaN for a class that is never answered, recall for one without pictures, F1 for one that
    is neither answered nor has pictures.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a file did on one part. `intervals`, of 95 %, has the names of `metrics` and, with costs, theirs.

    `confusion` counts the pictures of each class (row) by their answer (column). `temperature` was fitted on
    another part, `calibrated_error` is the calibration error at that temperature; both are None where there
    was no other part or no such temperature. `cost_weighted_error` is the mean cost of an answer.
    """

    metrics: Metrics
    intervals: dict[str, Interval]
    by_class: ClassScores
    confusion: NDArray[np.int64]
    temperature: float | None
    calibrated_error: float | None
    cost_weighted_error: float | None


def evaluate(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    *,
    costs: MisclassificationCosts | None = None,
    calibration: tuple[NDArray[np.floating], NDArray[np.integer]] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Evaluate answers on one part; a part of a single picture has no intervals.

    Args:
        logits: float (n, classes), n ≥ 1; rounded to float16 first, as they are stored.
        labels: int (n,), in [0, classes).
        costs: what wrong answers cost, for as many classes.
        calibration: logits and labels of another part, to fit the temperature on.
        seed: of the pictures drawn for the intervals.

    Raises:
        ValueError: there is no picture, or labels or costs don't fit the logits.
    """
    from sklearn.metrics import confusion_matrix

    stored = as_stored(logits, labels)
    classes = stored.shape[1]
    if costs is not None and len(costs.matrix) != classes:
        raise ValueError(f"needs costs of {classes} classes, not {len(costs.matrix)}")
    answers = stored.argmax(axis=1)
    metrics = metrics_of(logits, labels)
    cost = None if costs is None else costs.of(labels, answers)
    cost_weighted = None if cost is None else float(cost.mean())
    temperature = None if calibration is None else fit_temperature(as_stored(*calibration), calibration[1])
    estimates = metrics if cost_weighted is None else metrics | {COST: cost_weighted}
    return Evaluation(
        metrics=metrics,
        intervals=_intervals(estimates, stored, labels, cost, seed),
        by_class=class_scores(answers, labels, classes),
        confusion=confusion_matrix(labels, answers, labels=np.arange(classes)),
        temperature=temperature,
        calibrated_error=None if temperature is None else _calibration_error(stored / temperature, labels),
        cost_weighted_error=cost_weighted,
    )


def part_metrics(
    block: PredictionBlock,
    *,
    calibration: PredictionBlock | None = None,
    costs: MisclassificationCosts | None = None,
) -> PartMetrics:
    """Return what a model's record says of one part, from the answers as they are stored.

    Args:
        block: the answers on the part.
        calibration: the same model's answers on another part, to fit the temperature on.
        costs: what wrong answers cost.

    Raises:
        ValueError: `calibration` is another model's, or of the same part.
    """
    if calibration is not None and (calibration.model_id != block.model_id or calibration.part == block.part):
        raise ValueError(
            f"the temperature of {block.model_id} on {block.part} must come from its own answers on another "
            f"part, not from {calibration.model_id} on {calibration.part}"
        )
    found = evaluate(
        block.logits,
        block.labels,
        costs=costs,
        calibration=None if calibration is None else (calibration.logits, calibration.labels),
    )
    return PartMetrics.model_validate(
        {
            "part": block.part,
            "pictures": len(block.labels),
            "metrics": found.metrics,
            "intervals": {name: (one.low, one.high) for name, one in found.intervals.items()},
            "temperature": found.temperature,
            "calibrated_error": found.calibrated_error,
            "cost_weighted_error": found.cost_weighted_error,
        }
    )


def class_scores(answers: NDArray[np.integer], labels: NDArray[np.integer], classes: int) -> ClassScores:
    """Return precision, recall and F1 of each class from answers and labels, int (n,) in [0, classes)."""
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, support = precision_recall_fscore_support(
        labels, answers, labels=np.arange(classes), zero_division=np.nan
    )
    return ClassScores(precision=precision, recall=recall, f1=f1, support=support)


def _calibration_error(logits: NDArray[np.float64], labels: NDArray[np.integer]) -> float:
    from scipy.special import softmax

    return expected_calibration_error(softmax(logits, axis=1).max(axis=1), logits.argmax(axis=1) == labels)


def _intervals(
    estimates: Metrics,
    stored: NDArray[np.float64],
    labels: NDArray[np.integer],
    cost: NDArray[np.float64] | None,
    seed: int,
) -> dict[str, Interval]:
    if len(labels) < 2:
        return {}
    low, high = bootstrap(
        partial(metrics_of_draws, pictures_of(stored, labels, cost)), len(labels), seed=seed
    )
    return {
        name: Interval(estimate=estimates[name], low=float(low[place]), high=float(high[place]))
        for place, name in enumerate((*METRICS, COST)[: len(estimates)])
    }
