"""Devices by name: how a name is read, and what the device is, or why it isn't there."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hkbench.errors import UsageError, unknown
from hkbench.store.environment import cpu_model
from hkbench.telemetry.nvml import cuda_uuid


@dataclass(frozen=True, kw_only=True)
class Device:
    """A place to run: `cpu`, or one of the devices of a kind, counted from 0."""

    kind: str
    index: int = 0

    @property
    def name(self) -> str:
        """The name that records carry: `cpu`, `cuda:0`."""
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A device that is there; `uuid` is NVML's, None for a processor."""

    model: str
    uuid: str | None = None


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A device, or a file for it, that isn't there."""

    reason: str


def _find_cpu(device: Device) -> Found | Missing:
    del device  # there is one
    return Found(model=cpu_model())


def _find_cuda(device: Device) -> Found | Missing:
    import torch  # here, because it takes seconds and a row on the CPU does without

    try:
        torch.cuda.current_device()
    except (RuntimeError, AssertionError) as error:  # AssertionError: a build of torch without CUDA
        return Missing(reason=f"torch finds no CUDA device: {_first_sentence(error)}")
    count = torch.cuda.device_count()
    if device.index >= count:
        return Missing(reason=f"torch finds {count} CUDA devices, none of them is {device.name}")
    return Found(model=torch.cuda.get_device_name(device.index), uuid=cuda_uuid(device.index))


DEVICES: dict[str, Callable[[Device], Found | Missing]] = {"cpu": _find_cpu, "cuda": _find_cuda}
"""Kind of device → how one of it is found."""


def parse_device(name: str) -> Device:
    """Read a device's name: `cpu`, `cuda` (the first one) or `cuda:1`.

    Raises:
        UsageError: there is no such kind of device, or the index is no whole number from 0.
    """
    kind, colon, index = name.strip().partition(":")
    if kind not in DEVICES:
        raise unknown("device", kind, DEVICES)
    if not colon:
        return Device(kind=kind)
    if kind == "cpu" or not (index.isascii() and index.isdigit()):
        example = "'cpu' (all processors are one device)" if kind == "cpu" else f"'{kind}:0'"
        raise UsageError(f"'{name.strip()}' is not a device. Expected a name such as {example}.")
    return Device(kind=kind, index=int(index))


def parse_devices(names: Iterable[str]) -> tuple[Device, ...]:
    """Read devices' names, each device once, in order.

    Raises:
        UsageError: as `parse_device`.
    """
    return tuple(dict.fromkeys(parse_device(name) for name in names))


def find(device: Device) -> Found | Missing:
    """Look for a device on this machine; for CUDA this imports torch (seconds) but makes no context."""
    return DEVICES[device.kind](device)


def _first_sentence(error: Exception) -> str:
    return str(error).strip().splitlines()[0].split(". ")[0].rstrip(".")
