"""This machine as hkbench finds it: cores, memory, folders, compiler. What isn't known is None."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from hkbench.config import cache_dir, memory_limit_bytes, quota_cores, usable_cores
from hkbench.store.cache import entries
from hkbench.store.environment import cpu_model

CPU_INFO = Path("/proc/cpuinfo")
SHARED_MEMORY = Path("/dev/shm")
"""Where Ray keeps its objects."""

FEATURES = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "vnni": ("avx512_vnni", "avx_vnni"),
    "bf16": ("avx512_bf16", "bf16"),
    "amx": ("amx_tile",),
    "neon": ("asimd", "neon"),
    "sve": ("sve",),
}
"""What bears on the speed of a network → the system's flags for it, any of which will do.

vnni speeds up int8, bf16 and amx mixed precision; neon and sve are ARM's.
"""


@dataclass(frozen=True, kw_only=True)
class Cores:
    """Cores as the system counts them (with hyper-threads), and how many of them are ours to use."""

    logical: int
    physical: int | None
    affinity: int | None
    quota: int | None
    usable: int


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """The processor. `features` holds the names of `FEATURES` that it has."""

    model: str
    features: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory of the machine in bytes; `limit_bytes` is what our control group may take of it."""

    total_bytes: int
    available_bytes: int
    limit_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder and its file system; `size_bytes` is what of ours lies there."""

    path: Path
    size_bytes: int | None
    total_bytes: int
    free_bytes: int
    is_writable: bool


def cores() -> Cores:
    """Count the cores."""
    return Cores(
        logical=psutil.cpu_count() or 1,
        physical=psutil.cpu_count(logical=False),
        affinity=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        quota=quota_cores(),
        usable=usable_cores(),
    )


def cpu(info: Path = CPU_INFO) -> Cpu:
    """Name the processor and what it has that networks gain from."""
    flags = _flags(info)
    if flags is None:
        return Cpu(model=cpu_model(), features=None)
    return Cpu(
        model=cpu_model(), features=tuple(name for name, any_of in FEATURES.items() if flags & {*any_of})
    )


def memory() -> Memory:
    """Read how much memory there is."""
    found = psutil.virtual_memory()
    return Memory(
        total_bytes=found.total,
        available_bytes=found.available,
        limit_bytes=memory_limit_bytes(total_bytes=found.total),
    )


def cache_folder() -> Folder:
    """Look at the cache folder, which may not be there yet."""
    path = cache_dir()
    return _folder(path, sum(entry.size_bytes for entry in entries(path)))


def shared_memory() -> Folder | None:
    """Look at the memory that processes share by files; None where the system has none."""
    return _folder(SHARED_MEMORY, None) if SHARED_MEMORY.is_dir() else None


def cpp_compiler() -> str | None:
    """Return the C++ compiler that torch.compile would use for a CPU, None where it isn't there."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    return shutil.which(os.environ.get("CXX", usual))


def _flags(info: Path) -> set[str] | None:
    try:
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):  # x86's and ARM's word
            return set(value.split())
    return None


def _folder(path: Path, size_bytes: int | None) -> Folder:
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    disk = shutil.disk_usage(there)
    return Folder(
        path=path,
        size_bytes=size_bytes,
        total_bytes=disk.total,
        free_bytes=disk.free,
        is_writable=there.is_dir() and os.access(there, os.W_OK),
    )
