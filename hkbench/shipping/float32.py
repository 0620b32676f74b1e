"""A trained network as a float32 file of a run: written, checked against torch, scored, recorded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save

from hkbench.analysis.evaluation import part_metrics
from hkbench.analysis.misclassification import MisclassificationCosts
from hkbench.analysis.predictions import PredictionBlock
from hkbench.export.onnx import OPSET, float_model, torch_logits
from hkbench.export.session import OnnxClassifier
from hkbench.models.architecture import Architecture
from hkbench.models.build import build
from hkbench.models.classifier import Classifier, parameter_count
from hkbench.shipping.facts import file_metadata, licences_of, training_of
from hkbench.shipping.parts import Parts, scoring_threads
from hkbench.shipping.publish import publish
from hkbench.store.atomic import replacing, write_text
from hkbench.store.digest import sha256_of
from hkbench.store.records import DataRecord, ModelRecord, PartMetrics, TrialRecord
from hkbench.store.rundir import RunDirectory
from hkbench.training.checkpoint import Stored, load_checkpoint
from hkbench.training.teacher import network_with

BOTH_PARTS = ("validation", "test")
ONNX, WEIGHTS, LABELS = "model.onnx", "model.safetensors", "labels.txt"


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A trained network that is to be shipped, with what its record says of it."""

    id: str
    role: str
    network: Classifier
    architecture: Architecture
    epochs: int
    trial: int | None = None
    twin_of: int | None = None
    params: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """A file that lies in a run, and what it answers on the parts that it was scored on."""

    record: ModelRecord
    blocks: list[PredictionBlock]


def trained_network(checkpoint: Path | Stored, architecture: Architecture, classes: int) -> Classifier:
    """Return the network of a trial's last checkpoint, the moving average where there is one.

    Raises:
        HkbenchError: the checkpoint is missing or damaged.
    """
    network = build(architecture, classes=classes)
    state = load_checkpoint(checkpoint)["training"]
    average = state["average"]
    if average is None:
        network.load_state_dict(state["network"])
    else:
        network.load_state_dict(
            {name.removeprefix("module."): value for name, value in average.items() if name != "n_averaged"}
        )
    return network.eval()


def finalist_of(
    trial: TrialRecord, architecture: Architecture, checkpoint: Path | Stored, data: DataRecord
) -> Finalist:
    """Return what is to be shipped of a trial, with the weights of its checkpoint.

    Raises:
        HkbenchError: the checkpoint is missing or damaged.
    """
    return Finalist(
        id=f"trial-{trial.number:03d}",
        role="student" if trial.weight_soft > 0 else "no-teacher",
        network=trained_network(checkpoint, architecture, len(data.classes)),
        architecture=architecture,
        epochs=trial.epochs,
        trial=trial.number,
        params=trial.params,
        training=training_of(trial, next(iter(data.teachers), None)),
        licences=licences_of(data.name, architecture.model, trial.settings.get("weights")),
    )


def kept_network(run: RunDirectory, record: ModelRecord) -> Classifier | None:
    """Return the torch network of a float32 model of a run; None if the run doesn't hold its weights."""
    path = run.models / record.id / WEIGHTS
    if not path.is_file() or not record.architecture:
        return None
    data = run.read_run().data
    assert data is not None
    return network_with(path, Architecture.model_validate(record.architecture), len(data.classes))


def ship_float(
    finalist: Finalist,
    parts: Parts,
    run: RunDirectory,
    *,
    read: Sequence[str] = BOTH_PARTS,
    costs: MisclassificationCosts | None = None,
) -> Shipped:
    """Put a network into `models/<id>/` of a run: weights, labels, ONNX file and record.

    `read` names the parts that the file is scored on. The test part is read once, at the end of a study.

    Raises:
        RejectedError: the file gives other logits than torch.
        NotExportableError: ONNX has no operator for what a layer does.
        UsageError: the disk is full.
    """
    folder, classes = run.models / finalist.id, parts.store.classes
    state = {name: tensor.contiguous() for name, tensor in finalist.network.state_dict().items()}
    with replacing(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save(state))
    weights_sha256 = sha256_of(folder / WEIGHTS)
    write_text(folder / LABELS, "\n".join(classes) + "\n")
    published = publish(
        float_model(finalist.network, finalist.architecture.image_size),
        folder / ONNX,
        name=finalist.architecture.label,
        parts=parts,
        metadata=file_metadata(
            split_hash=parts.split.hash,
            precision="fp32",
            source_sha256=weights_sha256,
            training=finalist.training,
            licences=finalist.licences,
        ),
        expected=torch_logits(finalist.network, parts.pictures("validation")),
    )
    blocks = blocks_of(finalist.id, published.path, published.logits, parts, read)
    record = ModelRecord.model_validate(
        {
            "id": finalist.id,
            "role": finalist.role,
            "trial": finalist.trial,
            "twin_of": finalist.twin_of,
            "model": finalist.architecture.label,
            "image_size": finalist.architecture.image_size,
            "architecture": finalist.architecture.resolved().model_dump(exclude_none=True),
            "params": finalist.params,
            "parameters": parameter_count(finalist.network),
            "sha256": published.verified.sha256,
            "size_bytes": published.verified.size_bytes,
            "opset": OPSET,
            "files": {"onnx": ONNX, "safetensors": WEIGHTS, "labels": LABELS},
            "epochs": finalist.epochs,
            "training": finalist.training,
            "licences": finalist.licences,
            "parts": scored_parts(blocks, costs),
            "source_sha256": weights_sha256,
            "verified": published.verified,
        }
    )
    run.write_model(record)
    return Shipped(record=record, blocks=blocks)


def blocks_of(
    model_id: str, path: Path, validation_logits: Any, parts: Parts, read: Sequence[str]
) -> list[PredictionBlock]:
    """Return a file's answers: those on validation that are known, and those on the other parts to read."""
    known = parts.block(model_id, "validation", validation_logits)
    others = [part for part in read if part != "validation"]
    if not others:
        return [known]
    classifier = OnnxClassifier(path, threads=scoring_threads())
    return [known, *parts.scored(model_id, classifier, others)]


def scored_parts(
    blocks: Sequence[PredictionBlock], costs: MisclassificationCosts | None
) -> list[PartMetrics]:
    """Score each part; the calibration of the test part is corrected by what validation says."""
    validation = next(block for block in blocks if block.part == "validation")
    return [
        part_metrics(block, calibration=validation if block.part == "test" else None, costs=costs)
        for block in blocks
    ]
