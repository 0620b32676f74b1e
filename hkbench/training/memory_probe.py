"""How much of a GPU a network takes while it trains: a few steps on made-up pictures, measured.

`memory_process` does it in a process of its own, so that nothing of it stays on the device.
"""

import gc
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt

from hkbench.models.architecture import Architecture
from hkbench.models.build import build
from hkbench.telemetry.nvml import Gpu, NvmlUnavailableError, cuda_uuid
from hkbench.training.evaluate import EVALUATION_BATCH
from hkbench.training.feed import TrainingData
from hkbench.training.loop import Training, TrainingConfig
from hkbench.training.optimizers import OptimizerConfig

log = logging.getLogger(__name__)

STEPS = 3
"""The first step makes the optimiser's states, the second is the first with all of them there."""
SMALL_RATE = 1e-6
DECAY = 0.999


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProbeJob(_Line):
    """What is trained, at two batch sizes, the smaller first. Frozen stages run, and learn nothing."""

    architecture: Architecture
    classes: int
    batch_sizes: tuple[PositiveInt, PositiveInt]
    optimizer: str = "sgd"
    unfreeze: str = "all"
    mixed_precision: bool | None = None
    averaged: bool = False


class BatchPeak(_Line):
    """The most that torch took of the device at one batch size."""

    batch_size: PositiveInt
    reserved_bytes: NonNegativeInt
    allocated_bytes: NonNegativeInt


class MemoryProbe(_Line):
    """What a job took. `weight_bytes` are the trained weights', once.

    `context_bytes` is what the process took of the device beside torch's reserved memory.
    """

    job: ProbeJob
    device_bytes: PositiveInt
    context_bytes: NonNegativeInt
    weight_bytes: NonNegativeInt
    peaks: tuple[BatchPeak, BatchPeak]
    evaluation_bytes: NonNegativeInt


class ProbeFailure(_Line):
    """Why a job has no probe. `out_of_memory` says that it was too large for the device."""

    reason: str
    out_of_memory: bool = False
    asked_bytes: int | None = None


Found = MemoryProbe | ProbeFailure
Prober = Callable[[Sequence[ProbeJob]], list[Found]]


class DeviceMemory(Protocol):
    """What a probe reads of a device; `CudaMemory` is the real one."""

    total_bytes: int

    def reset(self) -> None:
        """Give back what isn't in use, and forget the peaks."""

    def peaks(self) -> tuple[int, int]:
        """Return the highest (reserved, allocated) bytes of this process since the last reset."""

    def context_bytes(self) -> int:
        """Return what this process takes of the device beside torch's reserved memory."""


class CudaMemory:
    """A CUDA device, read through torch, and through NVML where it answers."""

    def __init__(self, index: int = 0) -> None:
        self._index = index
        self._gpu: Gpu | None = None
        try:
            self._gpu = Gpu(cuda_uuid(index))
        except NvmlUnavailableError as missing:
            log.info("%s", missing)
        self._before = self._used()  # the context comes with the first tensor
        self.total_bytes = int(torch.cuda.get_device_properties(index).total_memory)

    def reset(self) -> None:
        """Give back what isn't in use, and forget the peaks."""
        gc.collect()
        torch.cuda.synchronize(self._index)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._index)

    def peaks(self) -> tuple[int, int]:
        """Return the highest (reserved, allocated) bytes of this process since the last reset."""
        torch.cuda.synchronize(self._index)
        reserved = torch.cuda.max_memory_reserved(self._index)
        return int(reserved), int(torch.cuda.max_memory_allocated(self._index))

    def context_bytes(self) -> int:
        """Return what this process takes of the device beside torch's reserved memory.

        Where NVML doesn't tell processes apart, it is what the device has more in use than before; without
        NVML all that is in use, so that neighbours count as ours.
        """
        reserved = int(torch.cuda.memory_reserved(self._index))
        own = None if self._gpu is None else self._gpu.read().process_bytes
        if own is None:
            used = self._used()
            if used is None or self._before is None:
                free, total = torch.cuda.mem_get_info(self._index)
                own = int(total - free)
            else:
                own = used - self._before
        return max(0, own - reserved)

    def _used(self) -> int | None:
        return None if self._gpu is None else self._gpu.read().device_bytes


def measure_job(job: ProbeJob, device: torch.device, memory: DeviceMemory) -> MemoryProbe:
    """Train and evaluate a job's network on `device`, and return the peaks that `memory` shows."""
    peaks, evaluations, weight_bytes = [], [], 0
    for batch_size in job.batch_sizes:
        memory.reset()
        training = _training_of(job, batch_size, device)
        for _ in range(STEPS):
            training.train_epoch()  # of one batch
        reserved, allocated = memory.peaks()
        peaks.append(BatchPeak(batch_size=batch_size, reserved_bytes=reserved, allocated_bytes=allocated))
        memory.reset()
        training.evaluate()
        evaluations.append(memory.peaks()[0])
        weight_bytes = _trained_bytes(training)
        del training
    small, large = peaks
    return MemoryProbe(
        job=job,
        device_bytes=memory.total_bytes,
        context_bytes=memory.context_bytes(),
        weight_bytes=weight_bytes,
        peaks=(small, large),
        evaluation_bytes=max(evaluations),
    )


def _training_of(job: ProbeJob, batch_size: int, device: torch.device) -> Training:
    random = np.random.default_rng(0)
    side, pictures = job.architecture.image_size, max(batch_size, EVALUATION_BATCH)
    every = np.arange(pictures)
    data = TrainingData(
        pictures=np.zeros((pictures, 3, side, side), np.uint8),
        labels=random.integers(job.classes, size=pictures),
        train=every[:batch_size],
        validation=every[:EVALUATION_BATCH],
        views=np.zeros((1, batch_size, 1), np.float16),
        inputs=random.integers(256, size=(1, batch_size, side, side, 3), dtype=np.uint8),
    )
    config = TrainingConfig(
        epochs=STEPS,
        batch_size=batch_size,
        optimizer=OptimizerConfig(name=job.optimizer, learning_rate=SMALL_RATE),
        warmup_epochs=0,
        ema_decay=DECAY if job.averaged else None,
        mixed_precision=job.mixed_precision,
    )
    network = build(job.architecture, classes=job.classes, unfreeze=job.unfreeze, seed=0)
    return Training(network, data, config, device)


def _trained_bytes(training: Training) -> int:
    return sum(each.nbytes for each in training.network.parameters() if each.requires_grad)
