"""All that is said of a file's answers on one part: metrics, intervals, classes, calibration, cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hkbench.analysis.calibration import expected_calibration_error, fit_temperature
from hkbench.analysis.draws import metric_ends
from hkbench.analysis.intervals import Interval
from hkbench.analysis.metrics import COST, METRICS, as_stored, metrics_of, terms_of
from hkbench.analysis.misclassification import MisclassificationCosts
from hkbench.analysis.predictions import PredictionBlock
from hkbench.store.records import Metrics, PartMetrics


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

    `temperature` was fitted on another part, `calibrated_error` is the calibration error at that temperature;
    both are None where there was no other part or no such temperature. `cost_weighted_error` is the mean
    cost of an answer.
    """

    metrics: Metrics
    intervals: dict[str, Interval]
    temperature: float | None
    calibrated_error: float | None
    cost_weighted_error: float | None


def evaluate(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    *,
    groups: Sequence[str] | None = None,
    costs: MisclassificationCosts | None = None,
    calibration: tuple[NDArray[np.floating], NDArray[np.integer]] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Evaluate answers on one part; a part of a single picture, or of a single group, has no intervals.

    Args:
        logits: float (n, classes), n ≥ 1; rounded to float16 first, as they are stored.
        labels: int (n,), in [0, classes).
        groups: the product of each picture (n,), drawn as one for the intervals; None where none is known.
        costs: what wrong answers cost, for as many classes.
        calibration: logits and labels of another part, to fit the temperature on.
        seed: of what is drawn for the intervals.

    Raises:
        ValueError: there is no picture, or labels, groups or costs don't fit the logits.
    """
    stored = as_stored(logits, labels)
    classes = stored.shape[1]
    if costs is not None and len(costs.matrix) != classes:
        raise ValueError(f"needs costs of {classes} classes, not {len(costs.matrix)}")
    if groups is not None and len(groups) != len(labels):
        raise ValueError(f"needs a group for each of {len(labels)} pictures, not {len(groups)}")
    metrics = metrics_of(logits, labels)
    cost = None if costs is None else costs.of(labels, stored.argmax(axis=1))
    cost_weighted = None if cost is None else float(cost.mean())
    temperature = None if calibration is None else fit_temperature(as_stored(*calibration), calibration[1])
    estimates = metrics if cost_weighted is None else metrics | {COST: cost_weighted}
    return Evaluation(
        metrics=metrics,
        intervals=_intervals(estimates, metric_ends(terms_of(stored, labels, cost), groups, seed)),
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
        groups=block.groups,
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
    estimates: Metrics, ends: tuple[NDArray[np.float64], NDArray[np.float64]] | None
) -> dict[str, Interval]:
    if ends is None:
        return {}
    return {
        name: Interval(estimate=estimates[name], low=float(low), high=float(high))
        for name, low, high in zip((*METRICS, COST)[: len(estimates)], *ends, strict=False)
    }
