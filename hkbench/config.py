"""Where things lie on this machine, and how many cores and how much memory there are to use."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
from platformdirs import user_cache_path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def cache_dir() -> Path:
    """Return the folder of what can be made again: picture stores, teachers, teacher logits.

    `HKBENCH_CACHE` names another one.
    """
    named = os.environ.get("HKBENCH_CACHE")
    return Path(named).expanduser().resolve() if named else user_cache_path("hkbench", appauthor=False)


def usable_cores() -> int:
    """Return the number of cores that this process may use, at least 1: by affinity and by CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, quota_cores() or cores)


def quota_cores(cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the CPU quota of the container in whole cores, rounded up, at least 1; None without a quota.

    Args:
        cgroups: where the control groups are mounted; version 2 (`cpu.max`) and version 1 are understood.
    """
    try:
        if (cgroups / "cpu.max").is_file():
            quota, period = (cgroups / "cpu.max").read_text().split()
        else:
            quota = (cgroups / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroups / "cpu" / "cpu.cfs_period_us").read_text()
        microseconds = int(quota), int(period)
    except (OSError, ValueError):  # no control groups, or "max": no quota
        return None
    if min(microseconds) <= 0:  # version 1 writes -1 for no quota
        return None
    return math.ceil(microseconds[0] / microseconds[1])


def usable_memory_bytes() -> int:
    """Return the memory that this process may use at most: the machine's, or its container's limit."""
    total = int(psutil.virtual_memory().total)
    return memory_limit_bytes(total_bytes=total) or total


def memory_limit_bytes(*, total_bytes: int, cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int | None:
    """Return the least limit of our control group and of those around it; None without one.

    Args:
        total_bytes: the memory of the machine; a limit that isn't below it is none.
        cgroups: where the control groups are mounted; versions 1 and 2 are understood.
        own: the file that names those of this process.
    """
    limits = [limit for file in _limit_files(cgroups, own) if (limit := _number(file)) is not None]
    least = min(limits, default=total_bytes)
    return least if least < total_bytes else None


def _limit_files(cgroups: Path, own: Path) -> Iterator[Path]:
    """Yield the files of memory limits, from our control group to the outermost that is to be seen."""
    ours = {"": "", "memory": ""}  # controller, version 2 has one for all → where we are below its root
    with suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            ours |= {name: path.strip("/") for name in controllers.split(",") if name in ours}
    versions = ((cgroups, "", "memory.max"), (cgroups / "memory", "memory", "memory.limit_in_bytes"))
    for root, controller, name in versions:
        folder = root / ours[controller]
        yield root / name
        yield from (parent / name for parent in (folder, *folder.parents) if parent.is_relative_to(root))


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None
