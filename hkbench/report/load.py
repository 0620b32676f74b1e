"""A run directory read into tables, each with the columns that the charts need, whatever is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hkbench.analysis.intervals import wilson
from hkbench.analysis.predictions import PredictionBlock, read_predictions
from hkbench.analysis.ranking import Ranking, ranked_parameters
from hkbench.analysis.trials import frontier_numbers
from hkbench.store.records import (
    BenchmarkRecord,
    EpochRecord,
    ModelRecord,
    PartMetrics,
    RunRecord,
    TelemetryRecord,
    TrialRecord,
)
from hkbench.store.rundir import RunDirectory

TRIAL_COLUMNS = [
    "number", "state", "reason", "seed_point", "model", "image_size", "loss", "weight_hard",
    "weight_soft", "temperature", "optimizer", "learning_rate", "epochs", "accuracy", "error",
    "artifact_bytes", "latency_ms", "seconds", "device", "feasible", "frontier",
]  # fmt: skip
TRIAL_NUMBERS = [
    "weight_hard", "weight_soft", "temperature", "learning_rate", "accuracy", "error", "artifact_bytes",
    "latency_ms", "seconds",
]  # fmt: skip
EPOCH_COLUMNS = [
    "trial", "epoch", "train_loss", "learning_rate", "seconds", "accuracy",
]  # fmt: skip
MODEL_COLUMNS = [
    "id", "role", "trial", "twin_of", "model", "image_size", "precision", "parameters", "sha256",
    "size_bytes", "pictures", "error", "error_low", "error_high", "validation_error",
    "cost_weighted_error", "cost_low", "cost_high",
]  # fmt: skip
MODEL_NUMBERS = [
    "trial", "twin_of", "size_bytes", "pictures", "error", "error_low", "error_high", "validation_error",
    "cost_weighted_error", "cost_low", "cost_high",
]  # fmt: skip
BENCHMARK_COLUMNS = [
    "model_id", "sha256", "device", "device_model", "runtime", "precision", "batch", "threads", "status",
    "reason", "p50_ms", "p90_ms", "samples", "measured",
]  # fmt: skip
TELEMETRY_COLUMNS = [
    "source", "name", "epoch", "seconds", "cpu_seconds", "peak_rss_bytes", "gpu_seconds", "energy_j",
    "device",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LoadedRun:
    """What a run left. A part that is missing is an empty table; a value that is missing is NaN or None.

    `error` is 1 − accuracy, a share. In `trials` it is of the validation part, and of the exported file where
    there is one; in `models` it is of `part`, the one part that all float32 models have: test where each has
    it, else validation. A narrower file that was exported later has no test error unless that was asked for.
    `path` is where the run lies, as its reader was told it, for commands. `rankings` are of the parameters
    whose choices were tried with several seeds.
    """

    path: str
    run: RunRecord
    trials: pd.DataFrame
    epochs: pd.DataFrame
    models: pd.DataFrame
    part: str
    benchmark: pd.DataFrame
    telemetry: pd.DataFrame
    predictions: Sequence[PredictionBlock]
    rankings: Sequence[Ranking]


def load_run(directory: RunDirectory) -> LoadedRun:
    """Read all that `directory` holds.

    Raises:
        UsageError: a record, or `predictions.parquet`, is there and can't be read.
    """
    run = directory.read_run()
    models, trials = directory.model_records(), directory.trials()
    whole = [model for model in models if model.source is None]
    part = "test" if whole and all(_part(model, "test") for model in whole) else "validation"
    return LoadedRun(
        path=directory.path.as_posix(),
        run=run,
        trials=_trials(trials, run.objectives, models),
        epochs=_table([_epoch(row) for row in directory.epochs()], EPOCH_COLUMNS, ["accuracy"]),
        models=_table([_model(model, part) for model in models], MODEL_COLUMNS, MODEL_NUMBERS),
        part=part,
        benchmark=_table(
            [row.model_dump(include=set(BENCHMARK_COLUMNS)) for row in directory.read(BenchmarkRecord)],
            BENCHMARK_COLUMNS,
            ["p50_ms", "p90_ms"],
        ),
        telemetry=_table(
            [_telemetry(row) for row in directory.read(TelemetryRecord)], TELEMETRY_COLUMNS, ["seconds"]
        ),
        predictions=read_predictions(directory.predictions),
        rankings=ranked_parameters(trials),
    )


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, each as column → value."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _table(rows: list[dict[str, Any]], columns: list[str], numbers: list[str]) -> pd.DataFrame:
    """Build a table that has all its columns even without a row; `numbers` become float, None → NaN."""
    return pd.DataFrame(rows, columns=pd.Index(columns)).astype(dict.fromkeys(numbers, float))


def _trials(
    records: list[TrialRecord], objectives: dict[str, Any], models: list[ModelRecord]
) -> pd.DataFrame:
    files = {(model.trial, model.precision): model for model in models}
    rows = [
        _trial(record, files.get((record.number, record.settings.get("precision", "fp32"))))
        for record in records
    ]
    table = _table(rows, TRIAL_COLUMNS, TRIAL_NUMBERS)
    table["feasible"] = table["feasible"].astype(bool)
    table["frontier"] = table["number"].isin(frontier_numbers(records, objectives))
    return table


def _trial(record: TrialRecord, file: ModelRecord | None) -> dict[str, Any]:
    """Return a trial's row; the file that it was exported as tells accuracy, bytes and latency."""
    measured = file.verified.latency_ms if file is not None and file.verified is not None else None
    accuracy = record.values.get("accuracy", record.metrics.get("accuracy"))
    validation = None if file is None else _part(file, "validation")
    if validation is not None:
        accuracy = validation.metrics["accuracy"]
    return record.model_dump(include=set(TRIAL_COLUMNS)) | {
        "optimizer": record.settings.get("optimizer"),
        "learning_rate": record.settings.get("learning_rate"),
        "accuracy": accuracy,
        "error": None if accuracy is None else 1 - accuracy,
        "artifact_bytes": record.values.get("artifact_bytes") if file is None else file.size_bytes,
        "latency_ms": record.values.get("latency_ms") if measured is None else measured,
        "seconds": record.usage.seconds if record.usage else None,
        "feasible": all(violation <= 0 for violation in record.constraints.values()),
    }


def _epoch(record: EpochRecord) -> dict[str, Any]:
    return record.model_dump(include=set(EPOCH_COLUMNS)) | {
        "trial": str(record.trial),
        "accuracy": record.metrics.get("accuracy"),
    }


def _model(record: ModelRecord, part: str) -> dict[str, Any]:
    row = record.model_dump(include=set(MODEL_COLUMNS))
    if record.precision != "fp32":
        row["model"] = f"{record.model} {record.precision}"
    shown, validation = _part(record, part), _part(record, "validation")
    if shown:
        n, accuracy = shown.pictures, shown.metrics["accuracy"]
        interval = wilson(round(accuracy * n), n)
        row |= {
            "pictures": n,
            "error": 1 - accuracy,
            "error_low": 1 - interval.high,
            "error_high": 1 - interval.low,
            "cost_weighted_error": shown.cost_weighted_error,
        }
        row["cost_low"], row["cost_high"] = shown.intervals.get("cost_weighted_error", (None, None))
    if validation:
        row["validation_error"] = 1 - validation.metrics["accuracy"]
    return row


def _part(record: ModelRecord, part: str) -> PartMetrics | None:
    """Return the metrics of `part`, if it was measured on at least one picture."""
    for found in record.parts:
        if found.part == part and found.pictures and "accuracy" in found.metrics:
            return found
    return None


def _telemetry(record: TelemetryRecord) -> dict[str, Any]:
    return record.model_dump(exclude={"usage"}) | record.usage.model_dump()
