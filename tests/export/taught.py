"""Networks that have learned to tell crops of two photographs apart, as float files."""

from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from photos import photos
from torch import nn

from hkbench.export.onnx import content_of, float_model
from hkbench.export.session import open_session, session_logits
from hkbench.models.architecture import Architecture
from hkbench.models.build import build

CLASSES = 4
COUNT = 64
SIZE = 32
HARD = Architecture(
    model="household", image_size=SIZE, block="plain", activation="hardswish", squeeze_excitation=True
)
"""Hard swish after each convolution, and a hard sigmoid in each squeeze-excitation."""
ARCHITECTURES = {
    "household_s": Architecture(model="household_s", image_size=SIZE),
    "baseline_cnn": Architecture(model="baseline_cnn", image_size=SIZE),
    "efficientnet_lite0_cut2": Architecture(model="efficientnet_lite0_cut2", image_size=SIZE),
    "hard": HARD,
}
NAMES = [
    "household_s",
    "baseline_cnn",
    "hard",
    pytest.param("efficientnet_lite0_cut2", marks=pytest.mark.slow),
]
"""For parameters of a test; what takes longest is slow."""
STEPS = 25


@cache
def crops():
    """Return the pictures: uint8 (64, 3, 32, 32)."""
    return photos(COUNT, SIZE)


def labels():
    """Return a class for each: which photograph, and from which half of it."""
    numbers = np.arange(COUNT)
    return numbers % 2 + 2 * (7 * numbers % 400 > 200)


@cache
def taught(name: str):
    """Return a network that was trained for a few steps, in eval mode. Copy it before you change it."""
    network = build(ARCHITECTURES[name], classes=CLASSES, seed=0)
    pictures = torch.from_numpy(crops()).float() / 255
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(STEPS):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(pictures), torch.from_numpy(labels())).backward()
            optimizer.step()
    with torch.no_grad():  # statistics of what the weights are now, for eval mode
        for _ in range(20):
            network(pictures)
    return network.eval()


@cache
def float_content(name: str) -> bytes:
    """Return the network's float32 file."""
    return content_of(float_model(taught(name), SIZE))


def float_file(name: str) -> onnx.ModelProto:
    """Return the network's float32 file, for the test to change."""
    return onnx.ModelProto.FromString(float_content(name))


def logits_of(model: onnx.ModelProto, pictures=None, **how):
    """Return what ONNX Runtime makes of the pictures: float32 (N, classes)."""
    session = open_session(content_of(model), threads=1)
    return session_logits(session, crops() if pictures is None else pictures, **how)


def optimised(model: onnx.ModelProto, folder) -> onnx.ModelProto:
    """Return the graph that ONNX Runtime makes of a file when it opens it, without layouts of its own."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    onnxruntime.InferenceSession(content_of(model), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")


def operators(model: onnx.ModelProto) -> list[str]:
    """Return the types of a graph's nodes."""
    return [node.op_type for node in model.graph.node]
