"""What an architecture costs before it is trained: bytes of its ONNX file, parameters, work and latency.

None of these depends on the weights' values, so each is measured once for each architecture and kept in the
cache under the versions and the processor that it was measured with. Latency needs a machine on which nothing
else runs, so only architectures that a space lists have it, measured before the first trial; what a larger
space proposes is counted when it is proposed.
"""

import importlib.metadata
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from hkbench.benchmark.artifact import measure_artifact
from hkbench.config import cache_dir
from hkbench.errors import HkbenchError, UsageError
from hkbench.export.onnx import export_onnx
from hkbench.models.architecture import Architecture
from hkbench.models.build import build, sketch
from hkbench.models.classifier import Classifier, parameter_count
from hkbench.models.counts import macs, weight_bytes
from hkbench.search.space import STATIC, Limit, Space
from hkbench.store import atomic
from hkbench.store.cache import key_of, read_kept
from hkbench.store.environment import cpu_model

LATENCY_SECONDS = 2.0
BEARING = ("hkbench", "torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime")
"""Packages whose versions bear on what a network costs."""
ANY_SPLIT = "0" * 64
"""As long as a real split's hash, so that the untrained file has the bytes of the trained one."""


class ArchitectureCost(BaseModel):
    """The static cost of one architecture; `macs` are multiply-accumulates of a picture.

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
        self._listed = space.architectures()
        self._largest = limit.at_most if (limit := space.constraints.get("artifact_bytes")) else None
        self._known: dict[Architecture, ArchitectureCost] = {}

    def measure(self, advance: Callable[[int, int], None] | None = None) -> None:
        """Measure the architectures that the space lists.

        Raises:
            HkbenchError: one of them doesn't export or doesn't run.
        """
        for done, architecture in enumerate(self._listed or (), start=1):
            self._known[architecture] = self._cost(architecture, timed=True)
            if advance is not None:
                advance(done, len(self._listed or ()))

    def of(self, architecture: Architecture) -> ArchitectureCost:
        """Return the cost of an architecture, counted here if it wasn't listed."""
        if architecture not in self._known:
            self._known[architecture] = self._cost(architecture, timed=False)
        return self._known[architecture]

    def _cost(self, architecture: Architecture, *, timed: bool) -> ArchitectureCost:
        network = sketch(architecture, len(self._classes))
        weights = weight_bytes(network, "fp32")
        if not timed and self._largest is not None and weights > self._largest:
            # Too large without its graph: some networks of a space are too large to be exported at all.
            return ArchitectureCost(
                artifact_bytes=weights,
                parameters=parameter_count(network),
                macs=macs(network, architecture.image_size),
            )
        path = _cache_path(architecture, network, self._classes, self._device)
        cost = read_kept(path, ArchitectureCost)
        if cost is None or (timed and cost.latency_ms is None):
            cost = _measure(architecture, self._classes, self._device if timed else None)
            atomic.write_text(path, cost.model_dump_json() + "\n")
        return cost

    def refuse_impossible(self, limits: dict[str, Limit]) -> None:
        """Refuse limits that no listed architecture keeps; a search would ask for points for ever.

        Raises:
            UsageError: names the architecture that comes nearest.
        """
        broken = {architecture: broken_limits(cost, limits) for architecture, cost in self._known.items()}
        if not broken or not all(broken.values()):
            return
        nearest = min(broken, key=lambda architecture: sum(broken[architecture].values()))
        values = self._known[nearest].objectives()
        found = ", ".join(f"{name} {values[name]:,.6g}" for name in broken[nearest])
        raise UsageError(
            f"No architecture of the space keeps its limits. The nearest is {nearest.label} at "
            f"{nearest.image_size} px, with {found}. Raise the limits, or let the space choose smaller "
            "networks."
        )


def broken_limits(cost: ArchitectureCost, limits: dict[str, Limit]) -> dict[str, float]:
    """Return the limits that an architecture breaks whatever it learns, and by how much."""
    found = {
        name: limits[name].violation(value) for name, value in cost.objectives().items() if name in limits
    }
    return {name: by for name, by in found.items() if by > 0}


def _cache_path(
    architecture: Architecture, network: Classifier, classes: tuple[str, ...], device: str
) -> Path:
    """Return where a cost is kept: it depends on the network's layers, not on what they are asked for by."""
    layers = str(network), [(name, list(tensor.shape)) for name, tensor in network.state_dict().items()]
    bearing = {name: importlib.metadata.version(name) for name in BEARING}
    key = key_of(architecture.model_dump(), layers, classes, device, cpu_model(), bearing)
    return cache_dir() / "costs" / f"{key}.json"


def _measure(architecture: Architecture, classes: tuple[str, ...], device: str | None) -> ArchitectureCost:
    """Export an untrained network and count it; where a device is told, measure the file's latency on it."""
    network = build(architecture, classes=len(classes), seed=0)
    _fill_with_noise(network)
    latency_ms = None
    with tempfile.TemporaryDirectory() as folder:
        artifact = export_onnx(
            network,
            Path(folder) / "untrained.onnx",
            image_size=architecture.image_size,
            labels=classes,
            metadata={"split": ANY_SPLIT},
        )
        if device is not None:
            row = measure_artifact(
                artifact.path, device=device, batch=1, threads=1, time_limit_s=LATENCY_SECONDS
            )
            if row.p50_ms is None:
                raise HkbenchError(
                    f"{architecture.label} at {architecture.image_size} px can't be measured on {device}: "
                    f"{row.reason}"
                )
            latency_ms = row.p50_ms
    return ArchitectureCost(
        artifact_bytes=artifact.size_bytes,
        parameters=artifact.parameters,
        macs=macs(network, architecture.image_size),
        latency_ms=latency_ms,
    )


def _fill_with_noise(network: nn.Module) -> None:
    """Give every tensor values of its own, as training would: the exporter stores equal tensors once."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5, generator=noise)
