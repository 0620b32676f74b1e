"""A run directory such as a search leaves, made up from a seed and written through RunDirectory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hkbench.analysis.metrics import metrics_of
from hkbench.analysis.predictions import PredictionBlock, write_predictions
from hkbench.store.records import (
    BenchmarkRecord,
    DataRecord,
    EpochRecord,
    ModelRecord,
    PartMetrics,
    RunRecord,
    SplitRecord,
    TelemetryRecord,
    TrialRecord,
    Usage,
)
from hkbench.store.rundir import RunDirectory

CLASSES = 12
EPOCHS = 9
SIZES = {
    "efficientnet_lite0_cut4": 3_900_000,
    "household_m": 1_450_000,
    "mobilenetv4_conv_small_050": 3_250_000,
    "squeezenet1_1": 3_050_000,
}
TEACHER_BYTES = 13_900_000
MakeRun = Callable[..., RunDirectory]


def run_record(name: str, data: str = "goods69", **changes: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "name": name,
        "kind": "search",
        "command": ["hkbench", "search", "--space", "distill", "--out", f"results/{name}"],
        "created": "2026-11-24T10:00:00+00:00",
        "finished": "2026-11-24T10:09:41+00:00",
        "status": "finished",
        "config": {"space": "distill"},
        "objectives": {"accuracy": "maximize", "artifact_bytes": "minimize", "latency_ms": "minimize"},
        "data": DataRecord(
            name=data,
            fingerprint="9f2c1d",
            classes=[f"class {i}" for i in range(CLASSES)],
            pictures=6900,
            split=SplitRecord(scheme="random", seed=0, hash="5b1e", train=4830, validation=1380, test=690),
        ),
        "versions": {"python": "3.11.9", "hkbench": "0.1.0", "torch": "2.14.1", "ray": "2.60.0"},
        "hardware": {
            "cpu_model": "AMD EPYC 7B13",
            "cores": 2,
            "memory_bytes": 8_000_000_000,
            "system": "Linux x86_64",
        },
        "git": {"commit": "c6eca3f", "dirty": False},
        "phase_seconds": {"teacher": 61.2, "trials": 420.0, "export": 12.5},
    }
    return RunRecord(**fields | changes)


def trial_record(number: int, generator: np.random.Generator, **changes: Any) -> TrialRecord:
    model = list(SIZES)[number % len(SIZES)]
    hard = number % 6 == 1
    pruned, failed = number % 3 == 2, number % 11 == 10
    alpha = 1.0 if hard else float(generator.uniform(0, 0.9))
    accuracy = float(np.clip(generator.normal(0.62 + 0.05 * (number % 4), 0.08) - 0.2 * pruned, 0.05, 0.97))
    state = "FAIL" if failed else "PRUNED" if pruned else "COMPLETE"
    fields: dict[str, Any] = {
        "number": number,
        "state": state,
        "reason": "the loss became NaN in epoch 1" if failed else "beaten at epoch 3" if pruned else None,
        "params": {"model": model, "optimizer": ["sgd", "adamw"][number % 2], "seed": number},
        "settings": {"optimizer": ["sgd", "adamw"][number % 2], "learning_rate": 0.02},
        "seed_point": {0: "study", 1: "no teacher"}.get(number),
        "model": model,
        "image_size": 64,
        "loss": "hard" if hard else "kd",
        "weight_hard": alpha,
        "weight_soft": 1 - alpha,
        "temperature": None if hard else float(np.exp(generator.uniform(0, np.log(10)))),
        "epochs": 0 if failed else 3 if pruned else EPOCHS,
        "metrics": {} if failed else {"accuracy": accuracy},
        "values": {
            "accuracy": None if failed else accuracy,
            "artifact_bytes": SIZES[model],
            "latency_ms": 0.6 + SIZES[model] / 1.6e6,
        },
        "usage": Usage(seconds=40.0, cpu_seconds=38.0),
        "device": "cpu",
    }
    return TrialRecord(**fields | changes)


def epoch_records(trial: int | str, epochs: int, accuracy: float) -> list[EpochRecord]:
    return [
        EpochRecord(
            trial=trial,
            epoch=epoch,
            train_loss=3.0 / epoch,
            learning_rate=0.02,
            seconds=4.0,
            metrics={"accuracy": accuracy * (1 - 0.75 * float(np.exp(-0.5 * epoch)))},
        )
        for epoch in range(1, epochs + 1)
    ]


def model_record(id_: str, role: str, blocks: list[PredictionBlock], **fields: Any) -> ModelRecord:
    parts = [
        PartMetrics(part=one.part, pictures=len(one.labels), metrics=metrics_of(one.logits, one.labels))
        for one in blocks
        if one.model_id == id_
    ]
    return ModelRecord(
        id=id_, role=role, sha256=f"sha-{id_}", parameters=900_000, image_size=64, parts=parts, **fields
    )


def benchmark_record(id_: str, p50_ms: float | None, **changes: Any) -> BenchmarkRecord:
    fields: dict[str, Any] = {
        "model_id": id_,
        "sha256": f"sha-{id_}",
        "size_bytes": 1,
        "device": "cpu",
        "device_model": "AMD EPYC 7B13",
        "runtime": "onnxruntime 1.23",
        "precision": "fp32",
        "batch": 1,
        "threads": 1,
        "status": "ok" if p50_ms else "failed",
        "reason": None if p50_ms else "the process was killed for memory",
        "p50_ms": p50_ms,
        "p90_ms": p50_ms and 1.14 * p50_ms,
        "samples": 400,
        "measured": "2026-11-24T10:09:00+00:00",
    }
    return BenchmarkRecord(**fields | changes)


def answers(id_: str, part: str, accuracy: float, n: int, seed: int) -> PredictionBlock:
    """Answers of about this accuracy; the same pictures, and the same hard ones, for each model."""
    labels = np.random.default_rng(1).integers(0, CLASSES, n)
    ease = np.random.default_rng(2).uniform(0, 1, n) + np.random.default_rng(seed).normal(0, 0.1, n)
    right = ease < np.quantile(ease, accuracy)
    answered = np.where(right, labels, (labels + 1) % CLASSES)
    logits = (4 * np.eye(CLASSES)[answered]).astype(np.float16)
    ids = [f"{part}-{i}" for i in range(n)]
    return PredictionBlock(
        model_id=id_, part=part, picture_ids=ids, groups=None, labels=labels, logits=logits
    )


def write_run(path: Path, trials: int = 26, data: str = "goods69", seed: int = 0, **run: Any) -> RunDirectory:
    """Write a finished run: trials and their epochs, a teacher, a twin, students, latencies, predictions."""
    generator = np.random.default_rng(seed)
    directory = RunDirectory(path)
    directory.write_run(run_record(path.name, data, **run))
    records = [trial_record(number, generator) for number in range(trials)]
    for record in records:
        directory.append(record)
        for epoch in epoch_records(record.number, record.epochs, record.values["accuracy"] or 0.0):
            directory.append(epoch)
        directory.append(TelemetryRecord(source="trial", name=str(record.number), usage=record.usage))
    for epoch in epoch_records("teacher", EPOCHS + 3, 0.9):
        directory.append(epoch)
    _write_models(directory)
    return directory


def _write_models(directory: RunDirectory) -> None:
    shown = {
        "student-12": ("student", 12, "efficientnet_lite0_cut4", 3_900_000, 0.872, 3.1),
        "student-6": ("student", 6, "mobilenetv4_conv_small_050", 3_250_000, 0.846, 2.3),
        "student-9": ("student", 9, "household_m", 1_450_000, 0.811, 1.2),
        "twin": ("no-teacher", 13, "efficientnet_lite0_cut4", 3_900_000, 0.838, 3.1),
        "teacher": ("teacher", None, "efficientnet_lite0", TEACHER_BYTES, 0.894, 9.7),
    }
    blocks = [
        answers(id_, part, accuracy, n, seed)
        for seed, (id_, (*_, accuracy, _)) in enumerate(shown.items())
        for part, n in (("validation", 1380), ("test", 690))
    ]
    write_predictions(directory.predictions, blocks)
    for id_, (role, trial, model, size, _, p50_ms) in shown.items():
        fields = {
            "trial": trial,
            "twin_of": 12 if id_ == "twin" else None,
            "model": model,
            "size_bytes": size,
        }
        directory.write_model(model_record(id_, role, blocks, **fields))
        directory.append(benchmark_record(id_, p50_ms))
