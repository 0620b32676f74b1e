"""Where things lie on this machine and how many cores there are to use."""

import math
import os
from pathlib import Path

from platformdirs import user_cache_path


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
