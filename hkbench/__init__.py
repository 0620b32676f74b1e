"""hkbench finds the smallest, fastest image classifier that is as accurate as needed, and proves it."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hkbench.api import Study, search

__version__ = "0.1.0"
__all__ = ["Study", "__version__", "search"]

# Nothing here reaches for the network: both of these would, unless told before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def __getattr__(name: str) -> Any:
    """Import the interface when it is asked for: torch and Ray take seconds, and a report needs neither."""
    if name in ("Study", "search"):
        return getattr(import_module("hkbench.api"), name)
    raise AttributeError(f"module 'hkbench' has no attribute '{name}'")
