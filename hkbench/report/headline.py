"""The sentence at the top of the page, made from the records, and what must be said beside it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hkbench.analysis.intervals import Interval, paired_difference
from hkbench.analysis.predictions import PredictionBlock, correct
from hkbench.report.latency import Latency, cpu_latency
from hkbench.report.load import LoadedRun, rows_of
from hkbench.report.units import counted, megabytes, milliseconds, number, percent, points

Model = dict[str, Any]
UNFINISHED = {
    "running": "This run has not ended",
    "interrupted": "This run was interrupted",
    "failed": "This run has failed",
}


def headline(loaded: LoadedRun) -> str:
    """Compare the student with the best validation accuracy to its teacher and to its no-teacher twin.

    What wasn't measured, or isn't there, is left out. Where nothing was taught the best network stands alone.
    """
    student, teacher = best_model(loaded, "student"), best_model(loaded, "teacher")
    latency = cpu_latency(loaded)
    if student is None:
        alone = best_network(loaded)
        if alone is None:
            return "No network has been exported yet."
        return f"{_facts(loaded, latency, alone)} It had no teacher."
    if teacher is None:
        return f"Student {_facts(loaded, latency, student)}{_gain(loaded, student)}"
    smaller = _times(teacher["size_bytes"] / student["size_bytes"], "smaller", "larger")
    return (
        f"Student {_name(student)} is {smaller}{_faster(latency, student, teacher)} "
        f"than its teacher {teacher['model']}, with {_error_difference(loaded, student, teacher)}."
        f"{_gain(loaded, student)}"
    )


def cautions(loaded: LoadedRun) -> list[str]:
    """Return what a reader must know beside the headline: the run's own warnings, such as a weak teacher."""
    said = list(loaded.run.warnings)
    if loaded.run.status != "finished":
        said.append(f"{UNFINISHED[loaded.run.status]}: the page shows what it has left so far.")
    return said


def best_model(loaded: LoadedRun, role: str) -> Model | None:
    """Return the model of a role with the least validation error, the smaller of equals."""
    rows = loaded.models[loaded.models["role"] == role]
    rows = rows.sort_values(["validation_error", "size_bytes", "id"])
    return None if rows.empty else rows_of(rows)[0]


def best_network(loaded: LoadedRun) -> Model | None:
    """Return the best student, or where none was taught the best network without a teacher."""
    return best_model(loaded, "student") or best_model(loaded, "no-teacher")


def _name(model: Model) -> str:
    number_of_trial = "" if math.isnan(model["trial"]) else f" (trial #{model['trial']:.0f})"
    return f"{model['model']}{number_of_trial}"


def _facts(loaded: LoadedRun, latency: Latency, model: Model) -> str:
    return (
        f"{_name(model)}: {megabytes(model['size_bytes'])}, {_own_latency(latency, model)}, "
        f"{percent(model['error'])} error on the {loaded.part} part."
    )


def _p50(latency: Latency, model: Model) -> float:
    return float(latency.rows["p50_ms"].get(model["id"], np.nan))


def _own_latency(latency: Latency, model: Model) -> str:
    p50 = _p50(latency, model)
    return "latency not measured" if math.isnan(p50) else f"{milliseconds(p50)} (cpu, batch 1)"


def _faster(latency: Latency, student: Model, teacher: Model) -> str:
    ratio = _p50(latency, teacher) / _p50(latency, student)
    if math.isnan(ratio):
        return ""
    return f" and {_times(ratio, 'faster', 'slower')} (cpu, batch 1)"


def _times(ratio: float, better: str, worse: str) -> str:
    return f"{number(ratio)} times {better}" if ratio >= 1 else f"{number(1 / ratio)} times {worse}"


def _gain(loaded: LoadedRun, student: Model) -> str:
    """Return a sentence, after a space, on the student and its twin; nothing where no twin was measured."""
    twins = loaded.models[loaded.models["twin_of"] == student["trial"]].dropna(subset=["error"])
    if twins.empty or math.isnan(student["error"]):
        return ""
    difference = _error_difference(loaded, student, rows_of(twins)[0])
    return f" What distillation brought, against its twin without a teacher: {difference}."


def _error_difference(loaded: LoadedRun, student: Model, other: Model) -> str:
    found = _paired(loaded, student["id"], other["id"])
    if found is None:
        return _unpaired(loaded, student, other)
    difference, n = found
    pictures = f"{counted(n, 'picture')} of the {loaded.part} part"
    if difference.holds_zero:
        return (
            "no difference in error shown (95 % interval of the difference "
            f"{points(-difference.high)} to {points(-difference.low)} points, {pictures})"
        )
    low, high = sorted((abs(difference.low), abs(difference.high)))
    word = "less" if difference.estimate > 0 else "more"
    return (
        f"{points(abs(difference.estimate))} points {word} error "
        f"(95 % interval {points(low)} to {points(high)}, {pictures})"
    )


def _unpaired(loaded: LoadedRun, student: Model, other: Model) -> str:
    more = student["error"] - other["error"]
    if math.isnan(more):
        return "an error that was not measured on the same part"
    word = "less" if more < 0 else "more"
    return (
        f"{points(abs(more))} points {word} error on the {loaded.part} part "
        "(no interval: predictions.parquet lacks one of the two)"
    )


def _paired(loaded: LoadedRun, student: str, other: str) -> tuple[Interval, int] | None:
    """Return accuracy of the student minus the other's on the pictures that both answered."""
    answers = [_answers(loaded.predictions, model, loaded.part) for model in (student, other)]
    shared = [picture for picture in answers[0] if picture in answers[1]]
    if not shared:
        return None
    right = np.array([[one[picture] for picture in shared] for one in answers], dtype=bool)
    return paired_difference(right[0], right[1]), len(shared)


def _answers(blocks: Sequence[PredictionBlock], model_id: str, part: str) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for block in blocks:
        if (block.model_id, block.part) == (model_id, part):
            found |= dict(zip(block.picture_ids, correct(block).tolist(), strict=True))
    return found
