"""NVIDIA devices through NVML. What a device or its driver doesn't tell is None with a reason, no error.

NVML knows nothing of CUDA_VISIBLE_DEVICES and numbers the devices in its own order, so a device is named by
its UUID here; `cuda_uuid` gives that of one of torch's devices.
"""

import atexit
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pynvml

T = TypeVar("T")


class NvmlUnavailableError(Exception):
    """There is no such device to read here; the message is the reason that a record keeps."""


@dataclass(frozen=True, kw_only=True)
class GpuReading:
    """A device at one moment.

    `utilization` is the share in [0, 1] of the driver's last sample period (a sixth of a second to one
    second) in which a kernel of any process ran. `device_bytes` is the memory in use by all processes,
    without the driver's reserve; `process_bytes` this process's part of it. `energy_j` counts from the
    driver's start. What is None has its reason in `missing`.
    """

    utilization: float | None
    device_bytes: int | None
    process_bytes: int | None
    energy_j: float | None
    missing: tuple[str, ...]


class Gpu:
    """One device, opened by its UUID."""

    def __init__(self, uuid: str) -> None:
        """Open the device.

        Args:
            uuid: as NVML writes it, such as `GPU-8f9a…`.

        Raises:
            NvmlUnavailableError: no driver, or no device with this UUID.
        """
        try:
            _start()
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError as error:
            raise NvmlUnavailableError(f"NVML can't read {uuid}: {error}") from error
        self.uuid = uuid

    def read(self) -> GpuReading:
        """Read all there is; takes about a millisecond and raises nothing."""
        missing: list[str] = []

        def ask(what: str, question: Callable[[Any], T]) -> T | None:
            try:
                return question(self._handle)
            except (pynvml.NVMLError, LookupError) as error:
                missing.append(f"{what}: {error}")
                return None

        return GpuReading(
            utilization=ask("utilization", _utilization),
            device_bytes=ask("device memory", _device_bytes),
            process_bytes=ask("process memory", _process_bytes),
            energy_j=ask("energy", _energy_j),
            missing=tuple(missing),
        )


def cuda_uuid(index: int) -> str:
    """Return the UUID by which NVML knows torch's device `cuda:index`.

    Raises:
        RuntimeError: torch finds no CUDA driver or no such device.
    """
    import torch  # here, because the rest of telemetry serves processes that must start without torch

    return f"GPU-{torch.cuda.get_device_properties(index).uuid}"


@functools.cache
def _start() -> None:
    pynvml.nvmlInit()
    atexit.register(pynvml.nvmlShutdown)


def _utilization(handle: Any) -> float:
    return float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100


def _device_bytes(handle: Any) -> int:
    # Version 2: version 1 counts what the driver reserves for itself as used.
    return int(pynvml.nvmlDeviceGetMemoryInfo(handle, pynvml.nvmlMemory_v2).used)


def _process_bytes(handle: Any) -> int:
    for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
        if process.pid == os.getpid():
            if process.usedGpuMemory is None:
                raise LookupError("the driver doesn't tell, the device's is given")
            return int(process.usedGpuMemory)
    # NVML lists the host's process ids: within a container, ours isn't among them.
    raise LookupError("this process isn't in NVML's list, the device's is given")


def _energy_j(handle: Any) -> float:
    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
