"""What a file says of itself in its metadata: how it was trained, its licences, and what it was made from."""

import json
from collections.abc import Mapping
from typing import Any

from hkbench.analysis.metrics import METRICS
from hkbench.store.records import ModelRecord, TrialRecord

ANY_HASH = "0" * 64
CODE_LICENCE = "Apache-2.0"
DATA_LICENCES = {"goods69": "CC0-1.0, CC-BY-3.0 (credits.csv of hkbench's goods69 names the creators)"}
"""Data sets that hkbench brings → what holds for their pictures. Of others it knows nothing."""
TOLD = (
    "weights", "unfreeze", "optimizer", "learning_rate", "weight_decay", "schedule", "batch_size",
    "label_smoothing", "ema_decay", "seed",
)  # fmt: skip


def training_of(trial: TrialRecord, teacher_sha256: str | None) -> dict[str, Any]:
    """Return how a trial was trained, in a few facts."""
    settings = {name: trial.settings[name] for name in TOLD if trial.settings.get(name) is not None}
    facts: dict[str, Any] = {"epochs": trial.epochs, "loss": trial.loss, **settings}
    if trial.weight_soft > 0:
        facts |= {"temperature": trial.temperature, "loss_weights": trial.loss_weights}
        facts |= {"teacher": teacher_sha256[:12]} if teacher_sha256 else {}
    return facts


def licences_of(data: str, model: str, weights: str | None) -> dict[str, str]:
    """Return the licences of the pictures, of hkbench's code, and of the weights that training began with."""
    found = {"code": CODE_LICENCE, "pictures": DATA_LICENCES.get(data, "not known to hkbench")}
    if weights == "imagenet":
        from hkbench.models.registry import entry_of  # not with the module: it brings torch

        imagenet = entry_of(model).imagenet
        found["weights"] = imagenet.licence if imagenet is not None else "not stated"
    elif weights not in (None, "none"):
        found["weights"] = f"those of {weights}"
    return found


def file_metadata(
    *,
    split_hash: str,
    precision: str,
    source_sha256: str,
    training: Mapping[str, Any],
    licences: Mapping[str, str],
) -> dict[str, str]:
    """Return a file's metadata beside its metrics, labels and preprocessing.

    `source_sha256` is the hash of what the file was made from: the weights of a float32 file, the float32
    file of a narrower one.
    """
    return {
        "split": split_hash,
        "precision": precision,
        "source_sha256": source_sha256,
        "training": json.dumps(training, ensure_ascii=False, separators=(",", ":")),
        "licences": json.dumps(licences, ensure_ascii=False, separators=(",", ":")),
    }


def metrics_text(validation: Mapping[str, float]) -> str:
    """Return a file's metrics on validation as its metadata has them."""
    return json.dumps({"validation": {name: round(value, 5) for name, value in validation.items()}})


def metadata_of(record: ModelRecord, split_hash: str) -> dict[str, str]:
    """Return the metadata of the file that a record belongs to, beside labels and preprocessing."""
    validation = record.part("validation")
    found = file_metadata(
        split_hash=split_hash,
        precision=record.precision,
        source_sha256=record.source_sha256 or "",
        training=record.training,
        licences=record.licences,
    )
    return found | ({"metrics": metrics_text(validation.metrics)} if validation is not None else {})


def typical_metadata(precision: str) -> dict[str, str]:
    """Return metadata as long as that of a trained network's file, so that its bytes are known before."""
    training = {
        "epochs": 10, "loss": "kd", "weights": "imagenet", "unfreeze": "all", "optimizer": "muon",
        "learning_rate": 0.0123456789012345, "weight_decay": 0.0001, "schedule": "cosine", "batch_size": 64,
        "label_smoothing": 0.0, "seed": 0, "temperature": 4.0, "teacher": ANY_HASH[:12],
        "loss_weights": {"hard": 0.1, "soft": 14.4},
    }  # fmt: skip
    licences = {"code": CODE_LICENCE, "pictures": DATA_LICENCES["goods69"], "weights": CODE_LICENCE}
    found = file_metadata(
        split_hash=ANY_HASH,
        precision=precision,
        source_sha256=ANY_HASH,
        training=training,
        licences=licences,
    )
    return {**found, "metrics": metrics_text(dict.fromkeys(METRICS, 0.12345))}
