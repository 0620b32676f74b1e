"""The GPUs that NVML lists, or why there are none."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import pynvml

from hkbench.telemetry.nvml import Gpu, NvmlUnavailableError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class GpuFacts:
    """A device; what its driver doesn't tell is None. `missing` is what can't be measured on it, and why."""

    name: str | None
    uuid: str | None
    memory_bytes: int | None
    used_bytes: int | None
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """All devices of this machine, also those that CUDA_VISIBLE_DEVICES hides; without any, the reason."""

    driver: str | None
    devices: tuple[GpuFacts, ...]
    reason: str | None


def find_gpus() -> Gpus:
    """Ask NVML; a machine without a driver or a device is no error."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Gpus(driver=None, devices=(), reason=f"NVML: {error}")
    try:
        driver = _ask(pynvml.nvmlSystemGetDriverVersion)
        count = _ask(pynvml.nvmlDeviceGetCount) or 0
        devices = tuple(_facts(index) for index in range(count))
        reason = None if devices else "the NVIDIA driver lists no device"
        return Gpus(driver=driver, devices=devices, reason=reason)
    finally:
        pynvml.nvmlShutdown()


def _facts(index: int) -> GpuFacts:
    handle = _ask(lambda: pynvml.nvmlDeviceGetHandleByIndex(index))
    uuid = None if handle is None else _ask(lambda: pynvml.nvmlDeviceGetUUID(handle))
    if uuid is None:
        return GpuFacts(
            name=None, uuid=None, memory_bytes=None, used_bytes=None, missing=("all: NVML can't open it",)
        )
    used, missing = _readings(uuid)
    return GpuFacts(
        name=_ask(lambda: pynvml.nvmlDeviceGetName(handle)),
        uuid=uuid,
        memory_bytes=_ask(lambda: int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)),
        used_bytes=used,
        missing=missing,
    )


def _readings(uuid: str) -> tuple[int | None, tuple[str, ...]]:
    """Return the memory in use, and what of a measurement's readings the device doesn't give."""
    try:
        reading = Gpu(uuid).read()
    except NvmlUnavailableError as error:
        return None, (str(error),)
    # This process has no memory there, so that it isn't listed says nothing.
    missing = tuple(text for text in reading.missing if not text.startswith("process memory"))
    return reading.device_bytes, missing


def _ask(question: Callable[[], T]) -> T | None:
    try:
        return question()
    except pynvml.NVMLError:
        return None
