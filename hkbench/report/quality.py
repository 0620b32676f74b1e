"""How good the exported files' answers are: a row of metrics each, and the best network class by class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from hkbench.analysis.compare import NO_DIFFERENCE, compare
from hkbench.analysis.evaluation import ClassScores, Evaluation, class_scores, evaluate
from hkbench.analysis.predictions import PredictionBlock
from hkbench.errors import UsageError
from hkbench.report.figures.chart import ROLE_WORDS, Table
from hkbench.report.headline import best_model, best_network
from hkbench.report.load import LoadedRun, rows_of
from hkbench.report.units import MISSING, counted, number, percent, points

SHARES = {
    "accuracy": "accuracy",
    "top-5": "top5",
    "balanced accuracy": "balanced_accuracy",
    "macro F1": "macro_f1",
}
SURE = 0.001
Model = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Quality:
    """A section: what is to be seen or is missing; `table` has a row a model, `classes` a row a class."""

    sentence: str
    table: Table | None = None
    classes: Table | None = None


def quality(loaded: LoadedRun) -> Quality:
    """Build the section from the stored answers to the shown part: the teacher, then the others by error."""
    answers = {block.model_id: block for block in loaded.predictions if block.part == loaded.part}
    models = [model for model in _in_order(loaded) if model["id"] in answers]
    if not models:
        return Quality(
            sentence="No file's answers are stored yet. A search that ends stores them: hkbench search."
        )
    versus = [_versus(answers[models[0]["id"]], answers[model["id"]]) for model in models]
    return Quality(
        sentence=_sentence(loaded, models, answers, [equal for _, equal in versus[1:]]),
        table=_table(loaded, models, answers, [p_value for p_value, _ in versus]),
        classes=_classes(loaded, answers),
    )


def _in_order(loaded: LoadedRun) -> list[Model]:
    first = best_model(loaded, "teacher")
    rows = rows_of(loaded.models.sort_values(["error", "size_bytes", "id"]))
    return sorted(rows, key=lambda row: first is None or row["id"] != first["id"])


def _versus(first: PredictionBlock, other: PredictionBlock) -> tuple[str, bool | None]:
    """Return McNemar's p as text, and whether no difference is shown; None where they can't be compared."""
    if first is other:
        return MISSING, None
    try:
        found = compare(first, other)
    except UsageError:  # files of an older split in one run directory
        return MISSING, None
    p_value = found.mcnemar.p_value
    return f"< {SURE}" if p_value < SURE else number(p_value), found.verdict == NO_DIFFERENCE


def _sentence(
    loaded: LoadedRun, models: list[Model], answers: dict[str, PredictionBlock], equal: list[bool | None]
) -> str:
    first = models[0]
    block = answers[first["id"]]
    pictures = counted(len(block.labels), "picture")
    drawn = "" if block.groups is None else f" over {counted(len(set(block.groups)), 'group')}"
    said = (
        f"Each file's answers to {pictures} of the {loaded.part} part, 95 % intervals{drawn} in small print."
    )
    if loaded.part != "validation":
        said += " Calibration error: as it is → after a temperature fitted on validation."
    compared = [one for one in equal if one is not None]
    if not compared:
        return said
    name = f"the teacher {first['model']}" if first["role"] == "teacher" else f"the first row, {first['id']}"
    return f"{said} p: McNemar's, against {name}; {_verdict(sum(compared), len(compared))}."


def _verdict(equal: int, others: int) -> str:
    if equal == others:
        return "no other is shown to differ from it in accuracy"
    if not equal:
        return "every other is shown to differ from it in accuracy"
    return (
        f"{equal} of {counted(others, 'other')} {'is' if equal == 1 else 'are'} not shown to differ from it"
    )


def _table(
    loaded: LoadedRun, models: list[Model], answers: dict[str, PredictionBlock], p_values: list[str]
) -> Table:
    with_costs = bool(loaded.models["cost_weighted_error"].notna().any())
    measured = [*SHARES, "log loss", "calibration error", *(["cost-weighted error"] if with_costs else [])]
    validation = {block.model_id: block for block in loaded.predictions if block.part == "validation"}
    rows = []
    for model, p_value in zip(models, p_values, strict=True):
        block = answers[model["id"]]
        elsewhere = validation.get(model["id"]) if loaded.part != "validation" else None
        found = evaluate(
            block.logits,
            block.labels,
            groups=block.groups,
            calibration=None if elsewhere is None else (elsewhere.logits, elsewhere.labels),
        )
        cost = [_cost(model)] if with_costs else []
        rows.append([_name(model), *_metrics(found), *cost, p_value])
    return Table(columns=["model", *measured, "p"], rows=rows, numeric=frozenset({*measured, "p"}))


def _name(model: Model) -> Markup:
    trial: str = "" if pd.isna(model["trial"]) else f", trial #{model['trial']:.0f}"
    return _with_small(model["model"], f"{ROLE_WORDS[model['role']]}{trial}, {model['image_size']} px")


def _metrics(found: Evaluation) -> list[Markup]:
    shares = [_with_small(percent(found.metrics[name]), _interval(found, name)) for name in SHARES.values()]
    loss = found.intervals.get("log_loss")
    between = f"{number(loss.low)} to {number(loss.high)}" if loss else ""
    before = percent(found.metrics["calibration_error"])
    after = "" if found.calibrated_error is None else f" → {percent(found.calibrated_error)}"
    return [
        *shares,
        _with_small(number(found.metrics["log_loss"]), between),
        _with_small(before + after, _interval(found, "calibration_error")),
    ]


def _interval(found: Evaluation, name: str) -> str:
    """Write the interval of a share, in percent; nothing where there is none."""
    interval = found.intervals.get(name)
    return f"{points(interval.low)} to {points(interval.high)}" if interval else ""


def _cost(model: Model) -> Markup:
    low, high = model["cost_low"], model["cost_high"]
    return _with_small(
        number(model["cost_weighted_error"]), "" if pd.isna(low) else f"{number(low)} to {number(high)}"
    )


def _with_small(text: str, small: str) -> Markup:
    return Markup("{}<br><small>{}</small>").format(text, small) if small else Markup("{}").format(text)


def _classes(loaded: LoadedRun, answers: dict[str, PredictionBlock]) -> Table | None:
    """Return the best network's precision, recall and F1 by class, the least F1 first."""
    student = best_network(loaded)
    names = loaded.run.data.classes if loaded.run.data is not None else []
    block = None if student is None else answers.get(student["id"])
    if block is None or len(names) != block.logits.shape[1]:
        return None
    measured = ["precision", "recall", "F1", "pictures"]
    scores = class_scores(block.logits.argmax(axis=1), block.labels, len(names))
    return Table(columns=["class", *measured], rows=_class_rows(names, scores), numeric=frozenset(measured))


def _class_rows(names: Sequence[str], scores: ClassScores) -> list[list[str]]:
    """Write a row for each class; a class with neither pictures nor answers has no F1 and comes last."""
    order = np.argsort(scores.f1, kind="stable")  # NaN is sorted to the end
    return [
        [
            names[place],
            percent(scores.precision[place]),
            percent(scores.recall[place]),
            percent(scores.f1[place]),
            str(scores.support[place]),
        ]
        for place in order
    ]
