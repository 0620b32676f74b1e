"""hkbench finds the smallest, fastest image classifier that is as accurate as needed, and proves it."""

import os

__version__ = "0.1.0"

# Nothing here reaches for the network: both of these would, unless told before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
