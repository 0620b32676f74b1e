"""A training's part of a GPU's memory: its limit, its peak, and what is said when there is no more."""

import gc
import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from hkbench.store.records import Usage
from hkbench.telemetry.nvml import Gpu, NvmlUnavailableError, cuda_uuid

CONTEXT_BYTES = 768 * 1024**2
"""What CUDA takes for a process beside torch's memory as long as nobody has measured it: rather too much."""
UNITS = {"bytes": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
AMOUNT = r"(\d+(?:\.\d+)?) (bytes|KiB|MiB|GiB)"
LIBRARIES = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
)
"""How memory that CUDA's libraries ask for behind torch's back is refused."""
NOT_TOLD = "process memory:"
"""How the sampler's reason begins where NVML doesn't tell a process's memory from its neighbours'."""
TORCHS_OWN = f"{NOT_TOLD} NVML doesn't tell it, what torch reserved is given"


def limit_memory(device: torch.device, fraction: float) -> None:
    """Let this process reserve no more than a fraction of a GPU's memory, and begin a new peak.

    What an earlier training in this process has left is given back first. On a CPU nothing is done.

    Args:
        device: where the training will run.
        fraction: in (0, 1], of all memory of the device, without CUDA's own part.
    """
    if device.type != "cuda":
        return
    index = _index(device)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(fraction, index)
    torch.cuda.reset_peak_memory_stats(index)


def peak_reserved_bytes(device: torch.device) -> int | None:
    """Return the most that torch has reserved of a GPU since `limit_memory`; None on a CPU."""
    return int(torch.cuda.max_memory_reserved(_index(device))) if device.type == "cuda" else None


def free_bytes(device: torch.device) -> int:
    """Return what this process may still take of a GPU: what is free, and no more than its limit leaves.

    What torch holds and doesn't use any more counts as free. On a CPU it is 0.
    """
    if device.type != "cuda":
        return 0
    index = _index(device)
    reserved, allocated = torch.cuda.memory_reserved(index), torch.cuda.memory_allocated(index)
    free, total = torch.cuda.mem_get_info(index)
    limit = int(torch.cuda.get_per_process_memory_fraction(index) * total)
    return max(0, min(int(free) + reserved, limit) - allocated)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


@dataclass(frozen=True, kw_only=True)
class GpuMemory:
    """A GPU's model and memory, and how much of that is held already: by this process, by a desktop."""

    model: str
    total_bytes: int
    held_bytes: int


def smallest_gpu() -> GpuMemory | None:
    """Return what all GPUs of this process have: the least memory, of which the most is held. None without.

    What torch holds here and doesn't use any more is given back first.
    """
    if not torch.cuda.is_available():
        return None
    gc.collect()
    torch.cuda.empty_cache()
    indices = range(torch.cuda.device_count())
    total_bytes = {at: int(torch.cuda.get_device_properties(at).total_memory) for at in indices}
    smallest = min(indices, key=total_bytes.__getitem__)
    return GpuMemory(
        model=torch.cuda.get_device_name(smallest),
        total_bytes=total_bytes[smallest],
        held_bytes=max(map(_held_bytes, indices)),
    )


def _held_bytes(index: int) -> int:
    """Return what is in use of a GPU; asked of torch, which makes a context there, only without NVML."""
    try:
        held = Gpu(cuda_uuid(index)).read().device_bytes
    except NvmlUnavailableError:
        held = None
    if held is not None:
        return held
    free, total = torch.cuda.mem_get_info(index)
    return int(total - free)


def with_own_peak(usage: Usage, reserved_bytes: int | None) -> Usage:
    """Return `usage` with this process's own peak where NVML gave that of the whole device.

    Beside other trainings the device's peak says nothing of one of them. `reserved_bytes` is what
    `peak_reserved_bytes` returned.
    """
    reasons = (usage.gpu_reason or "").split("; ")
    if reserved_bytes is None or not any(reason.startswith(NOT_TOLD) for reason in reasons):
        return usage
    own = [TORCHS_OWN if reason.startswith(NOT_TOLD) else reason for reason in reasons]
    return usage.model_copy(update={"peak_gpu_bytes": reserved_bytes, "gpu_reason": "; ".join(own)})


def reserved_peak(usage: Usage, context_bytes: int) -> int | None:
    """Return what torch had reserved at the peak of a stretch of work; None where that isn't on record.

    NVML's figure of a process holds CUDA's own part, `context_bytes`; a whole device's is no process's.
    """
    if usage.peak_gpu_bytes is None:
        return None
    reasons = (usage.gpu_reason or "").split("; ")
    if TORCHS_OWN in reasons:
        return usage.peak_gpu_bytes
    if any(reason.startswith(NOT_TOLD) for reason in reasons):
        return None
    return max(0, usage.peak_gpu_bytes - context_bytes)


@dataclass(frozen=True, kw_only=True)
class OutOfMemory:
    """A GPU that had no more: the bytes that were asked for, and what other processes held of it.

    Either is None where the error doesn't tell.
    """

    asked_bytes: int | None
    others_bytes: int | None


def out_of_memory_of(error: BaseException) -> OutOfMemory | None:
    """Return what an error says of a GPU's memory; None if it, and what caused it, is another one."""
    for each in _causes(error):
        text = str(each)
        if isinstance(each, torch.OutOfMemoryError):
            asked = _amount(rf"Tried to allocate {AMOUNT}", text)
            return OutOfMemory(asked_bytes=asked, others_bytes=_others_bytes(text))
        if isinstance(each, RuntimeError) and any(said in text for said in LIBRARIES):
            return OutOfMemory(asked_bytes=None, others_bytes=None)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _others_bytes(text: str) -> int | None:
    """Return what is neither free nor this process's, by torch's message; None where it doesn't tell."""
    capacity = _amount(rf"total capac\w+ of {AMOUNT}", text)
    free = _amount(rf"of which {AMOUNT} is free", text)
    allocated = _amount(rf"Of the allocated memory {AMOUNT} is allocated", text)
    if capacity is None or free is None or allocated is None:
        return None
    cached = _amount(rf"{AMOUNT} is reserved by PyTorch but unallocated", text) or 0
    ours = _amount(rf"this process has {AMOUNT} memory in use", text)
    if ours is None or ours > capacity:  # where the driver doesn't tell, torch says 2⁶⁴
        ours = allocated + cached + CONTEXT_BYTES
    return max(0, capacity - free - ours)


def _amount(pattern: str, text: str) -> int | None:
    found = re.search(pattern, " ".join(text.split()))
    return None if found is None else round(float(found[1]) * UNITS[found[2]])
