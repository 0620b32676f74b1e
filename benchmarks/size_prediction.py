"""The bytes of a file, as a search knows them before anything trains, against the file that is shipped."""

import time
from typing import Any

import numpy as np
import torch

from benchmarks.claim import Claim, machine, main
from hkbench.data.sources import open_source
from hkbench.export.onnx import content_of, described, float_model
from hkbench.export.quantize.int8 import Quantizer
from hkbench.export.quantize.recipe import Layout, Recipe
from hkbench.models.architecture import Architecture
from hkbench.models.build import build
from hkbench.models.classifier import Classifier
from hkbench.models.counts import weight_bytes
from hkbench.models.registry import MODELS, entry_of
from hkbench.shipping.facts import file_metadata, licences_of, metrics_text
from hkbench.study.costs import predicted_cost

TARGET = 0.03
QUICK = ("household_s", "efficientnet_lite0_cut2", "baseline_cnn", "squeezenet1_1")
PRECISIONS = ("fp32", "int8")
CLASSES = open_source("goods69").classes
TRAINING = {"epochs": 33, "loss": "hard", "optimizer": "adamw", "learning_rate": 0.003, "seed": 7}


def measure(quick: bool) -> Claim:
    """Predict and export every network of the registry, in float32 and in int8."""
    rows = {name: _compare(name) for name in (QUICK if quick else sorted(MODELS))}
    errors = {
        f"{name}, {precision}": row[precision]["error"]
        for name, row in rows.items()
        for precision in PRECISIONS
    }
    worst = max(errors, key=lambda key: abs(errors[key]))
    return Claim(
        name="size_prediction",
        value=abs(errors[worst]),
        unit="share of the file's bytes that the prediction is off, the worst of all",
        target=f"at most {TARGET}",
        holds=abs(errors[worst]) <= TARGET,
        details={"worst": worst, "networks": rows, **machine(threads=1)},
    )


def _compare(name: str) -> dict[str, Any]:
    architecture = Architecture(model=name, image_size=max(64, entry_of(name).smallest_image_size))
    row: dict[str, Any] = {}
    model = None
    for precision in PRECISIONS:
        begun = time.perf_counter()
        predicted = predicted_cost(architecture, precision, CLASSES).artifact_bytes
        seconds = time.perf_counter() - begun
        model = model or float_model(_as_if_trained(architecture), architecture.image_size)
        found = _shipped_bytes(model, architecture, precision)
        row[precision] = {
            "predicted": predicted,
            "exported": found,
            "error": predicted / found - 1,
            "weights_alone": weight_bytes(build(architecture, classes=len(CLASSES)), precision) / found - 1,
            "seconds": seconds,
        }
    return row


def _as_if_trained(architecture: Architecture) -> Classifier:
    """Return a network with weights and batch-norm statistics as some steps leave them."""
    network = build(architecture, classes=len(CLASSES), seed=1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    size, noise = architecture.image_size, torch.Generator().manual_seed(2)
    for _ in range(2):
        logits = network(torch.rand(4, 3, size, size, generator=noise))
        torch.nn.functional.cross_entropy(logits, torch.arange(4)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return network.eval()


def _shipped_bytes(model: Any, architecture: Architecture, precision: str) -> int:
    size = architecture.image_size
    pictures = np.random.default_rng(3).integers(0, 256, (64, 3, size, size), dtype=np.uint8)
    narrow = type(model).FromString(model.SerializeToString())
    if precision == "int8":
        recipe = Recipe(layout=Layout(float_stem=True))  # the fastest of all that were timed so far
        narrow = Quantizer(model, pictures).quantized(recipe)
    metadata = file_metadata(
        split_hash="a" * 64,
        precision=precision,
        source_sha256="b" * 64,
        training=TRAINING,
        licences=licences_of("goods69", architecture.model, "none"),
    )
    metrics = {"accuracy": 0.9, "top5": 0.98, "balanced_accuracy": 0.9, "macro_f1": 0.9, "log_loss": 0.3}
    described(
        narrow,
        architecture.label,
        size,
        CLASSES,
        {**metadata, "metrics": metrics_text({**metrics, "calibration_error": 0.01})},
    )
    return len(content_of(narrow))


if __name__ == "__main__":
    main(measure)
