"""What an architecture costs before it is trained: bytes of its ONNX file, parameters and latency.

None of these depends on the weights' values, so each is measured once for each architecture, while nothing
else runs, and kept in the cache under the versions and the processor that it was measured with.
"""

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
from hkbench.models.registry import build
from hkbench.search.settings import Architecture
from hkbench.search.space import Limit
from hkbench.store import atomic
from hkbench.store.cache import key_of, read_kept
from hkbench.store.environment import cpu_model, versions

LATENCY_SECONDS = 2.0
ANY_SPLIT = "0" * 64
"""As long as a real split's hash, so that the untrained file has the bytes of the trained one."""


class ArchitectureCost(BaseModel):
    """The static cost of one architecture; latency is the p50 at batch 1, one thread, ONNX Runtime."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    artifact_bytes: int
    latency_ms: float
    parameters: int

    def objectives(self) -> dict[str, float]:
        """Return the objectives that don't depend on training."""
        return {"artifact_bytes": float(self.artifact_bytes), "latency_ms": self.latency_ms}


def measure_costs(
    architectures: list[Architecture],
    classes: tuple[str, ...],
    device: str,
    advance: Callable[[int, int], None] | None = None,
) -> dict[Architecture, ArchitectureCost]:
    """Return the cost of each architecture, measured here or taken from the cache.

    Raises:
        HkbenchError: an architecture doesn't export or doesn't run.
    """
    found: dict[Architecture, ArchitectureCost] = {}
    for done, architecture in enumerate(architectures, start=1):
        path = _cache_path(architecture, classes, device)
        cost = read_kept(path, ArchitectureCost)
        if cost is None:
            cost = _measure(architecture, classes, device)
            atomic.write_text(path, cost.model_dump_json() + "\n")
        found[architecture] = cost
        if advance is not None:
            advance(done, len(architectures))
    return found


def broken_limits(cost: ArchitectureCost, limits: dict[str, Limit]) -> dict[str, float]:
    """Return the limits that an architecture breaks whatever it learns, and by how much."""
    found = {
        name: limits[name].violation(value) for name, value in cost.objectives().items() if name in limits
    }
    return {name: by for name, by in found.items() if by > 0}


def refuse_impossible(costs: dict[Architecture, ArchitectureCost], limits: dict[str, Limit]) -> None:
    """Refuse limits that no architecture of a space keeps; a search would ask for points for ever.

    Raises:
        UsageError: names the architecture that comes nearest.
    """
    broken = {architecture: broken_limits(cost, limits) for architecture, cost in costs.items()}
    if not all(broken.values()):
        return
    nearest = min(broken, key=lambda architecture: sum(broken[architecture].values()))
    model, image_size, _ = nearest
    found = ", ".join(f"{name} {costs[nearest].objectives()[name]:,.6g}" for name in broken[nearest])
    raise UsageError(
        f"No architecture of the space keeps its limits. The nearest is {model} at {image_size} px, "
        f"with {found}. Raise the limits, or let the space choose smaller networks."
    )


def _cache_path(architecture: Architecture, classes: tuple[str, ...], device: str) -> Path:
    bearing = {
        name: text for name, text in versions().items() if name in ("hkbench", "torch", "onnxruntime", "timm")
    }
    key = key_of(*architecture, classes, device, cpu_model(), bearing)
    return cache_dir() / "costs" / f"{key}.json"


def _measure(architecture: Architecture, classes: tuple[str, ...], device: str) -> ArchitectureCost:
    model, image_size, frozen_body = architecture
    network = build(model, classes=len(classes), frozen_body=frozen_body, seed=0)
    _fill_with_noise(network)
    with tempfile.TemporaryDirectory() as folder:
        artifact = export_onnx(
            network,
            Path(folder) / "untrained.onnx",
            image_size=image_size,
            labels=classes,
            metadata={"split": ANY_SPLIT},
        )
        row = measure_artifact(artifact.path, device=device, batch=1, threads=1, time_limit_s=LATENCY_SECONDS)
    if row.p50_ms is None:
        raise HkbenchError(f"{model} at {image_size} px can't be measured on {device}: {row.reason}")
    return ArchitectureCost(
        artifact_bytes=artifact.size_bytes, latency_ms=row.p50_ms, parameters=artifact.parameters
    )


def _fill_with_noise(network: nn.Module) -> None:
    """Give every tensor values of its own, as training would: the exporter stores equal tensors once."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5, generator=noise)
