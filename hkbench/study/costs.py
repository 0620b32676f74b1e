"""What an architecture costs before it is trained: bytes of its ONNX file, parameters, work, latency, energy.

None of these depends on the weights' values, so each is measured once for each architecture and kept in the
cache under the versions and the device that it was measured with. The architectures that a space lists are
exported and timed before the first trial; any other when it is first proposed, timed only if latency decides.

Latency and energy are measured in the exclusive slot of `store.device_lock`, which pauses trainings between
two batches: on the driver's machine, also where trainings run on a cluster. They pause while the file is
loaded, warmed up (up to 0.4 s) and sampled (0.5 to 2 s); for int8 also for the 0.5 s in which its layout is
chosen; for energy during 5 s of rest and 5 s of work. The network is built and exported beside them.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from hkbench.benchmark.artifact import measure_artifact, measure_energy
from hkbench.benchmark.devices import Found, find, parse_device
from hkbench.benchmark.energy import why_no_energy
from hkbench.benchmark.jobs import EnergyResult
from hkbench.benchmark.runtimes import why_unmeasurable
from hkbench.config import cache_dir
from hkbench.errors import HkbenchError, UsageError
from hkbench.export.onnx import content_of, described, float_model
from hkbench.models.architecture import Architecture
from hkbench.models.build import build, sketch
from hkbench.models.classifier import Classifier, parameter_count
from hkbench.models.counts import Precision, check_precision, macs, weight_bytes
from hkbench.shipping.facts import typical_metadata
from hkbench.shipping.untrained import untrained
from hkbench.spaces.space import STATIC, Limit, Space
from hkbench.store import atomic
from hkbench.store.cache import key_of, read_kept
from hkbench.store.environment import cpu_model

LATENCY_SECONDS = 2.0
BEARING = ("hkbench", "torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime")
"""Packages whose versions bear on what a network costs."""
NOISE = 0.01


class ArchitectureCost(BaseModel):
    """The static cost of one architecture at one precision; `macs` are multiply-accumulates of a picture.

    Latency is the p50 at batch 1, one thread, ONNX Runtime. Energy is what a picture at batch 1 takes of the
    GPU above what the idle GPU takes, in millijoules. Both are None where they weren't measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    artifact_bytes: int
    parameters: int
    macs: int
    latency_ms: float | None = None
    energy_mj: float | None = None

    def objectives(self) -> dict[str, float]:
        """Return the objectives that don't depend on training."""
        found = {name: getattr(self, name) for name in STATIC}
        return {name: float(value) for name, value in found.items() if value is not None}


CostOf = Callable[[Architecture, str], ArchitectureCost]
"""(architecture, precision) → what it costs."""


class Costs:
    """The costs of a space's architectures: those that it lists beforehand, any other when it is asked for.

    What breaks `limits` isn't measured; they may be replaced once those that follow the teacher are known.

    Args:
        space: whose architectures.
        classes: what the networks tell apart.
        device: where latency and energy are measured.
    """

    def __init__(self, space: Space, classes: tuple[str, ...], device: str = "cpu") -> None:
        self._classes = classes
        self._device = device
        self._listed = list(product(space.architectures() or (), space.precisions()))
        wanted = {*space.objectives, *space.constraints}
        self._wants_latency, self._wants_energy = "latency_ms" in wanted, "energy_mj" in wanted
        self._known: dict[tuple[Architecture, Precision], ArchitectureCost] = {}
        self.limits = _in_numbers(space.constraints)

    def measure(self, advance: Callable[[int, int], None] | None = None) -> None:
        """Measure the architectures that the space lists.

        Raises:
            UsageError: the space asks for what can't be measured on the device.
            HkbenchError: one of them doesn't export or doesn't run.
        """
        self._refuse_unmeasurable()
        for done, key in enumerate(self._listed, start=1):
            self._known[key] = self._cost(*key)
            if advance is not None:
                advance(done, len(self._listed))

    def of(self, architecture: Architecture, precision: str = "fp32") -> ArchitectureCost:
        """Return the cost of an architecture at a precision; one that wasn't listed is measured here, once.

        Raises:
            HkbenchError: it doesn't export or doesn't run.
        """
        key = architecture, check_precision(precision)
        if key not in self._known:
            self._known[key] = self._cost(*key)
        return self._known[key]

    def _refuse_unmeasurable(self) -> None:
        energy = why_no_energy(self._device) if self._wants_energy else None
        latency = why_unmeasurable(self._device) if self._wants_latency else None
        for name, reason in (("energy_mj", energy), ("latency_ms", latency)):
            if reason is not None:
                raise UsageError(
                    f"{name} can't be measured on {self._device}: {reason}. Take macs in its place."
                )

    def _cost(self, architecture: Architecture, precision: Precision) -> ArchitectureCost:
        listed = (architecture, precision) in self._listed
        network = sketch(architecture, len(self._classes))
        weights, limit = weight_bytes(network, precision), self.limits.get("artifact_bytes")
        if not listed and limit is not None and Limit(at_most=limit.at_most).violation(weights) > 0:
            # Too large without its graph: some networks of a space are too large to be exported at all.
            return ArchitectureCost(
                artifact_bytes=weights,
                parameters=parameter_count(network),
                macs=macs(network, architecture.image_size),
            )
        path = _cache_path(architecture, precision, network, self._classes, self._device)
        kept = read_kept(path, ArchitectureCost)
        if kept is not None and not self._lacking(kept, listed=listed):
            return kept
        timed = listed or self._wants_latency or self._wants_energy
        file, cost = _exported(architecture, precision, self._classes, timed=timed)
        if kept is not None and (kept.latency_ms, kept.energy_mj) != (None, None):
            cost = kept  # not its counts alone: the figures are of that file
        figures = {name: FIGURES[name](file, self._device) for name in self._lacking(cost, listed=listed)}
        cost = cost.model_copy(update={name: figure.value for name, figure in figures.items()})
        if all(figure.alone for figure in figures.values()):
            atomic.write_text(path, cost.model_dump_json() + "\n")
        return cost

    def _lacking(self, cost: ArchitectureCost, *, listed: bool) -> list[str]:
        """Return what is still to be measured; nothing for an architecture that breaks a limit anyway."""
        kept_to = not broken_limits(cost, self.limits)
        wanted = {
            "latency_ms": listed or (self._wants_latency and kept_to),
            "energy_mj": self._wants_energy and kept_to,
        }
        return [name for name, is_wanted in wanted.items() if is_wanted and getattr(cost, name) is None]

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


def _in_numbers(limits: dict[str, Limit]) -> dict[str, Limit]:
    """Return the limits that are known already."""
    return {
        name: limit
        for name, limit in limits.items()
        if isinstance(limit.at_least, float | int | None) and isinstance(limit.at_most, float | int | None)
    }


def _cache_path(
    architecture: Architecture,
    precision: Precision,
    network: Classifier,
    classes: tuple[str, ...],
    device: str,
) -> Path:
    """Return where a cost is kept: it depends on the network's layers, not on what they are asked for by."""
    layers = str(network), [(name, list(tensor.shape)) for name, tensor in network.state_dict().items()]
    bearing = {name: _version(name) for name in BEARING}
    place = find(parse_device(device))
    where = place.model if isinstance(place, Found) and place.uuid is not None else device
    key = key_of(architecture.model_dump(), precision, layers, classes, where, cpu_model(), bearing)
    return cache_dir() / "costs" / f"{key}.json"


def _version(name: str) -> str:
    """Return a package's version; ONNX Runtime for GPUs is a package by another name."""
    try:
        return version(name)
    except PackageNotFoundError:
        return version(f"{name}-gpu")


def predicted_cost(
    architecture: Architecture, precision: Precision, classes: tuple[str, ...]
) -> ArchitectureCost:
    """Return what an architecture will cost: its untrained network is exported and counted.

    The file holds the same tensors, nodes and metadata as the one that is shipped after a training, so its
    bytes are the trained one's but for the length of some numbers in its metadata. Nothing is timed.
    """
    return _exported(architecture, precision, classes, timed=False)[1]


@dataclass(frozen=True, kw_only=True)
class _File:
    """An exported file, and whose it is."""

    content: bytes
    label: str
    precision: Precision


def _exported(
    architecture: Architecture, precision: Precision, classes: tuple[str, ...], *, timed: bool
) -> tuple[_File, ArchitectureCost]:
    """Export an untrained network; `timed` says whether int8 may take the layout that is fastest here."""
    network = build(architecture, classes=len(classes), seed=0)
    _set_apart(network)
    size = architecture.image_size
    model = untrained(float_model(network, size), precision, size, timed=timed)
    described(model, architecture.label, size, classes, typical_metadata(precision))
    content = content_of(model)
    cost = ArchitectureCost(
        artifact_bytes=len(content), parameters=parameter_count(network), macs=macs(network, size)
    )
    return _File(content=content, label=f"{architecture.label} at {size} px", precision=precision), cost


@dataclass(frozen=True, kw_only=True)
class _Figure:
    """What was measured; `alone` is False where a training didn't pause for it, so that it isn't kept."""

    value: float
    alone: bool


def _latency_ms(file: _File, device: str) -> _Figure:
    with _on_disk(file) as path:
        row = measure_artifact(
            path, device=device, batch=1, threads=1, time_limit_s=LATENCY_SECONDS, precision=file.precision
        )
    if row.p50_ms is None:
        raise HkbenchError(f"The latency of {file.label} can't be measured on {device}: {row.reason}")
    return _Figure(value=row.p50_ms, alone=row.reason is None)


def _energy_mj(file: _File, device: str) -> _Figure:
    with _on_disk(file) as path:
        found = measure_energy(path, device=device)
    if not isinstance(found, EnergyResult):
        raise HkbenchError(f"The energy of {file.label} can't be measured on {device}: {found.reason}")
    return _Figure(value=found.energy_mj, alone=found.alone)


FIGURES: dict[str, Callable[[_File, str], _Figure]] = {"latency_ms": _latency_ms, "energy_mj": _energy_mj}
"""What is measured and not counted → how, on a device."""


@contextmanager
def _on_disk(file: _File) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "untrained.onnx"
        path.write_bytes(file.content)
        yield path


def _set_apart(network: nn.Module) -> None:
    """Give every tensor values of its own, as training does: the exporter stores equal tensors once."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=noise), alpha=NOISE)
