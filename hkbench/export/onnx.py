"""A trained network → one ONNX file that carries its labels and preprocessing, checked against torch."""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from hkbench.data.decode import DECODER
from hkbench.errors import HkbenchError
from hkbench.export.failures import explained
from hkbench.export.rewrite import streamline
from hkbench.export.session import LOGITS, PICTURES, OnnxClassifier
from hkbench.models.classifier import Classifier, parameter_count
from hkbench.models.counts import fused
from hkbench.store.atomic import replacing

OPSET = 20
TOLERANCE = 1e-3
CHECKED_BATCHES = (1, 32)
TORCH_BATCH = 128
UNVERIFIED = ".unverified"
PREPROCESSING = {"channels": "RGB", "range": [0, 1], "resize": DECODER}


class RejectedError(HkbenchError):
    """A file that isn't what it was made from."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """An exported file, identified by its SHA-256; `parameters` are those of the network it came from."""

    path: Path
    sha256: str
    size_bytes: int
    opset: int
    parameters: int


def export_onnx(
    network: Classifier,
    path: Path,
    *,
    image_size: int,
    labels: Sequence[str],
    metadata: Mapping[str, str],
) -> Artifact:
    """Write `network` to `path` as one ONNX file, its batch-norm folded; the network isn't changed.

    Input `pictures`: float32 (batch, 3, image_size, image_size), RGB in [0, 1]. Output `logits`:
    float32 (batch, classes). The file's metadata is `metadata` and what `described` adds. Equal weights make
    equal bytes: no version of hkbench is among it, so that a file can be made again by a later one.

    Raises:
        UsageError: the disk is full.
        NotExportableError: ONNX has no operator for what a layer does; says which.
    """
    model = float_model(network, image_size)
    described(model, network.name, image_size, labels, metadata)
    content = content_of(model)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return Artifact(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        opset=OPSET,
        parameters=parameter_count(network),
    )


def float_model(network: Classifier, image_size: int) -> onnx.ModelProto:
    """Return `network` as a float32 ONNX model, without metadata.

    Raises:
        NotExportableError: ONNX has no operator for what a layer does; says which.
    """
    model = _translate(network, image_size)
    streamline(model)
    _strip(model)
    return model


def described(
    model: onnx.ModelProto, name: str, image_size: int, labels: Sequence[str], metadata: Mapping[str, str]
) -> None:
    """Put into a model's metadata what a reader of its file needs: labels, picture size, preprocessing."""
    onnx.helper.set_model_props(
        model,
        {
            **metadata,
            "image_size": str(image_size),
            "labels": json.dumps(list(labels), ensure_ascii=False, separators=(",", ":")),
            "model": name,
            "preprocessing": json.dumps(PREPROCESSING, separators=(",", ":")),
        },
    )


def content_of(model: onnx.ModelProto) -> bytes:
    """Return the bytes of a model's file; equal models make equal bytes."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def check_export(artifact: Artifact, network: Classifier, pictures: NDArray[np.uint8]) -> float:
    """Return the greatest difference of a logit between the file and `network`, at batch 1 and 32.

    `pictures` are real ones, uint8 (N, 3, S, S). A file that fails is renamed to end in `.rejected`.

    Raises:
        RejectedError: the difference is over a thousandth of the greatest logit, or isn't a number.
    """
    classifier = OnnxClassifier(artifact.path)
    found = [classifier.logits(pictures, batch=batch) for batch in CHECKED_BATCHES]
    return refuse_other_logits(artifact.path, network.name, found, torch_logits(network, pictures))


def refuse_other_logits(
    path: Path, name: str, found: Sequence[NDArray[np.float32]], expected: NDArray[np.float32]
) -> float:
    """Return the greatest difference between a file's logits, at each batch, and those of torch.

    `found` and `expected` are float32 (N, classes); `name` is what the network is called.

    Raises:
        RejectedError: it is over a thousandth of the greatest logit, or isn't a number; the file is renamed.
    """
    difference = max(float(np.abs(each - expected).max()) for each in found)
    allowed = allowed_difference(expected)
    if not difference <= allowed:  # so that a NaN fails too
        raise reject(
            path,
            f"it gives other logits than the {name} that it was made from: they differ by {difference:.3g}, "
            f"where {allowed:.3g} is allowed",
        )
    return difference


def allowed_difference(expected: NDArray[np.float32]) -> float:
    """Return how far a float32 file's logits may be from torch's."""
    return TOLERANCE * max(1.0, float(np.abs(expected).max()))


def reject(path: Path, why: str) -> RejectedError:
    """Rename a file that must not be shipped, and return the error that says why."""
    rejected = path.with_name(f"{path.name.removesuffix(UNVERIFIED)}.rejected")
    path.replace(rejected)
    return RejectedError(
        f"The exported file is not shipped: {why}. It is kept at {rejected}; please report it with the "
        "versions of torch, onnx and onnxruntime."
    )


def torch_logits(network: Classifier, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what torch makes of pictures, uint8 (N, 3, S, S), on the CPU; the network isn't changed."""
    still = copy.deepcopy(network).cpu().eval()
    with torch.inference_mode():
        parts = [
            still(torch.from_numpy(pictures[start : start + TORCH_BATCH]).float() / 255).numpy()
            for start in range(0, len(pictures), TORCH_BATCH)
        ]
    return np.concatenate(parts)


def _translate(network: Classifier, image_size: int) -> onnx.ModelProto:
    # Without gradients: nothing is traced for a backward pass.
    still = fused(network).cpu().requires_grad_(False)
    pictures = torch.zeros(2, 3, image_size, image_size)
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                still,
                (pictures,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[PICTURES],
                output_names=[LOGITS],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise explained(error, still, pictures, network.name) from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Remove what tells of the machine that exported: stack traces with paths, names of source lines."""
    graph = model.graph
    del graph.value_info[:], model.metadata_props[:]
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
