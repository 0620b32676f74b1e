"""Where things lie on this machine and how many cores there are to use."""

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
    """Return the number of cores that this process may run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
