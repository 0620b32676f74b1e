"""What an architecture costs before it is trained: bytes of its ONNX file, parameters, work and latency.

None of these depends on the weights' values, so each is measured once for each architecture and kept in the
cache under the versions and the processor that it was measured with. Latency needs a machine on which nothing
else runs, so only architectures that a space lists have it, measured before the first trial; what a larger
space proposes is counted when it is proposed.
"""

import importlib.metadata
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from hkbench.benchmark.artifact import measure_artifact
from hkbench.config import cache_dir
from hkbench.errors import HkbenchError, UsageError
from hkbench.export.onnx import content_of, described, float_model
from hkbench.models.architecture import Architecture
from hkbench.models.build import build, sketch
from hkbench.models.classifier import Classifier, parameter_count
from hkbench.models.counts import Precision, check_precision, macs, weight_bytes
from hkbench.search.space import STATIC, Limit, Space
from hkbench.shipping.facts import typical_metadata
from hkbench.shipping.untrained import untrained
from hkbench.store import atomic
from hkbench.store.cache import key_of, read_kept
from hkbench.store.environment import cpu_model

LATENCY_SECONDS = 2.0
BEARING = ("hkbench", "torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime")
"""Packages whose versions bear on what a network costs."""
NOISE = 0.01


class ArchitectureCost(BaseModel):
    """The static cost of one architecture at one precision; `macs` are multiply-accumulates of a picture.

    Latency is the p50 at batch 1, one thread, ONNX Runtime; None where it wasn't measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    artifact_bytes: int
    parameters: int
    macs: int
    latency_ms: float | None = None

    def objectives(self) -> dict[str, float]:
        """Return the objectives that don't depend on training."""
        found = {name: getattr(self, name) for name in STATIC}
        return {name: float(value) for name, value in found.items() if value is not None}


class Costs:
    """The costs of a space's architectures: those that it lists beforehand, any other when it is asked for.

    Args:
        space: whose architectures.
        classes: what the networks tell apart.
        device: where latency is measured.
    """

    def __init__(self, space: Space, classes: tuple[str, ...], device: str) -> None:
        self._classes = classes
        self._device = device
        self._listed = list(product(space.architectures() or (), space.precisions()))
        self._largest = limit.at_most if (limit := space.constraints.get("artifact_bytes")) else None
        self._known: dict[tuple[Architecture, Precision], ArchitectureCost] = {}

    def measure(self, advance: Callable[[int, int], None] | None = None) -> None:
        """Measure the architectures that the space lists.

        Raises:
            HkbenchError: one of them doesn't export or doesn't run.
        """
        for done, key in enumerate(self._listed, start=1):
            self._known[key] = self._cost(*key, timed=True)
            if advance is not None:
                advance(done, len(self._listed))

    def of(self, architecture: Architecture, precision: str = "fp32") -> ArchitectureCost:
        """Return the cost of an architecture at a precision, counted here if it wasn't listed."""
        key = architecture, check_precision(precision)
        if key not in self._known:
            self._known[key] = self._cost(*key, timed=False)
        return self._known[key]

    def _cost(self, architecture: Architecture, precision: Precision, *, timed: bool) -> ArchitectureCost:
        network = sketch(architecture, len(self._classes))
        weights = weight_bytes(network, precision)
        if not timed and self._largest is not None and weights > self._largest:
            # Too large without its graph: some networks of a space are too large to be exported at all.
            return ArchitectureCost(
                artifact_bytes=weights,
                parameters=parameter_count(network),
                macs=macs(network, architecture.image_size),
            )
        path = _cache_path(architecture, precision, network, self._classes, self._device)
        cost = read_kept(path, ArchitectureCost)
        if cost is None or (timed and cost.latency_ms is None):
            cost = predicted_cost(architecture, precision, self._classes, self._device if timed else None)
            atomic.write_text(path, cost.model_dump_json() + "\n")
        return cost

    def refuse_impossible(self, limits: dict[str, Limit]) -> None:
        """Refuse limits that no listed architecture keeps; a search would ask for points for ever.

        Raises:
            UsageError: names the architecture that comes nearest.
        """
        broken = {key: broken_limits(cost, limits) for key, cost in self._known.items()}
        if not broken or not all(broken.values()):
            return
        nearest = min(broken, key=lambda key: sum(broken[key].values()))
        architecture, precision = nearest
        values = self._known[nearest].objectives()
        found = ", ".join(f"{name} {values[name]:,.6g}" for name in broken[nearest])
        said = "" if precision == "fp32" else f" in {precision}"
        raise UsageError(
            f"No architecture of the space keeps its limits. The nearest is {architecture.label} at "
            f"{architecture.image_size} px{said}, with {found}. Raise the limits, or let the space choose "
            "smaller networks."
        )


def broken_limits(cost: ArchitectureCost, limits: dict[str, Limit]) -> dict[str, float]:
    """Return the limits that an architecture breaks whatever it learns, and by how much."""
    found = {
        name: limits[name].violation(value) for name, value in cost.objectives().items() if name in limits
    }
    return {name: by for name, by in found.items() if by > 0}


def _cache_path(
    architecture: Architecture,
    precision: Precision,
    network: Classifier,
    classes: tuple[str, ...],
    device: str,
) -> Path:
    """Return where a cost is kept: it depends on the network's layers, not on what they are asked for by."""
    layers = str(network), [(name, list(tensor.shape)) for name, tensor in network.state_dict().items()]
    bearing = {name: importlib.metadata.version(name) for name in BEARING}
    key = key_of(architecture.model_dump(), precision, layers, classes, device, cpu_model(), bearing)
    return cache_dir() / "costs" / f"{key}.json"


def predicted_cost(
    architecture: Architecture,
    precision: Precision,
    classes: tuple[str, ...],
    device: str | None = None,
) -> ArchitectureCost:
    """Return what an architecture will cost: its untrained network is exported and counted.

    The file holds the same tensors, nodes and metadata as the one that is shipped after a training, so its
    bytes are the trained one's but for the length of some numbers in its metadata. Where a device is told,
    the file's latency is measured on it.
    """
    network = build(architecture, classes=len(classes), seed=0)
    _set_apart(network)
    model = untrained(
        float_model(network, architecture.image_size),
        precision,
        architecture.image_size,
        timed=device is not None,
    )
    described(model, architecture.label, architecture.image_size, classes, typical_metadata(precision))
    content = content_of(model)
    return ArchitectureCost(
        artifact_bytes=len(content),
        parameters=parameter_count(network),
        macs=macs(network, architecture.image_size),
        latency_ms=None if device is None else _latency_ms(content, architecture, precision, device),
    )


def _latency_ms(content: bytes, architecture: Architecture, precision: Precision, device: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "untrained.onnx"
        path.write_bytes(content)
        row = measure_artifact(
            path, device=device, batch=1, threads=1, time_limit_s=LATENCY_SECONDS, precision=precision
        )
    if row.p50_ms is None:
        raise HkbenchError(
            f"{architecture.label} at {architecture.image_size} px can't be measured on {device}: "
            f"{row.reason}"
        )
    return row.p50_ms


def _set_apart(network: nn.Module) -> None:
    """Give every tensor values of its own, as training does: the exporter stores equal tensors once."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=noise), alpha=NOISE)
