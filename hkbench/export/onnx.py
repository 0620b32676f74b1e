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
from hkbench.export.rewrite import streamline
from hkbench.export.session import OnnxClassifier
from hkbench.models.classifier import Classifier, parameter_count
from hkbench.models.counts import fused
from hkbench.store.atomic import replacing

OPSET = 20
TOLERANCE = 1e-3
CHECKED_BATCHES = (1, 32)


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
    float32 (batch, classes). The file's metadata holds `labels`, `image_size`, `preprocessing` and `model`
    beside what is in `metadata`. Equal weights make equal bytes: no version of hkbench is among it, so that a
    file can be made again by a later one.

    Raises:
        UsageError: the disk is full.
        HkbenchError: torch can't express the network in ONNX.
    """
    model = _translate(network, image_size)
    streamline(model)
    _strip(model)
    onnx.helper.set_model_props(
        model,
        {
            **metadata,
            "image_size": str(image_size),
            "labels": json.dumps(list(labels), ensure_ascii=False),
            "model": network.name,
            "preprocessing": json.dumps({"channels": "RGB", "range": [0, 1], "resize": DECODER}),
        },
    )
    content = model.SerializeToString(deterministic=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return Artifact(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        opset=OPSET,
        parameters=parameter_count(network),
    )


def check_export(artifact: Artifact, network: Classifier, pictures: NDArray[np.uint8]) -> float:
    """Return the greatest difference of a logit between the file and `network`, at batch 1 and 32.

    `pictures` are real ones, uint8 (N, 3, S, S). A file that fails is renamed to end in `.rejected`.

    Raises:
        HkbenchError: the difference is over a thousandth of the greatest logit, or isn't a number.
    """
    classifier = OnnxClassifier(artifact.path)
    expected = _torch_logits(network, pictures)
    difference = max(
        float(np.abs(classifier.logits(pictures, batch=batch) - expected).max()) for batch in CHECKED_BATCHES
    )
    allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= allowed:  # so that a NaN fails too
        rejected = artifact.path.with_name(f"{artifact.path.name}.rejected")
        artifact.path.replace(rejected)
        raise HkbenchError(
            f"The exported {network.name} gives other logits than the network it was made from: they differ "
            f"by {difference:.3g}, where {allowed:.3g} is allowed. The file is kept at {rejected}; please "
            "report it with the versions of torch, onnx and onnxruntime."
        )
    return difference


def _translate(network: Classifier, image_size: int) -> onnx.ModelProto:
    # Without gradients: nothing is traced for a backward pass.
    still = fused(network).cpu().requires_grad_(False)
    pictures = torch.zeros(2, 3, image_size, image_size)
    with torch.no_grad():
        program = torch.onnx.export(
            still,
            (pictures,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["pictures"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise HkbenchError(f"torch made no ONNX program of {network.name}.")
    model: onnx.ModelProto = program.model_proto
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Remove what tells of the machine that exported: stack traces with paths, names of source lines."""
    graph = model.graph
    del graph.value_info[:], model.metadata_props[:]
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""


def _torch_logits(network: Classifier, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    still = copy.deepcopy(network).cpu().eval()
    with torch.inference_mode():
        logits: NDArray[np.float32] = still(torch.from_numpy(pictures).float() / 255).numpy()
    return logits
