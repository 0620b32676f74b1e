"""Building a picture store from encoded pictures, against Pillow and torchvision in pools of processes."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.claim import Claim, machine, main
from benchmarks.peers import decoders
from hkbench.data.build import build_stores
from hkbench.data.source import Source
from hkbench.data.sources import open_source

SIZES = (64, 96)
"""The first is the claim's; the other shows that it doesn't hang on halving pictures of 128 px."""
REPETITIONS = 7
QUICK_REPETITIONS = 2

Build = Callable[[Source, int, Path], NDArray[np.uint8]]


def ours(source: Source, size: int, folder: Path) -> NDArray[np.uint8]:
    """Build the store in an empty cache."""
    return build_stores(source, (size,), cache=folder)[size].pictures


BUILDS: dict[str, Build] = {"hkbench": ours, "pillow": decoders.pillow, "torchvision": decoders.torchvision}


ALONE = """
import sys, time
from pathlib import Path
from hkbench.data.sources import open_source
from hkbench.data.build import build_stores
source = open_source("goods69")
started = time.perf_counter()
build_stores(source, (int(sys.argv[1]),), cache=Path(sys.argv[2]))
print(time.perf_counter() - started)
"""


def _alone(source: Source, size: int) -> float:
    """Return our pictures a second in a fresh process, what it must load first counted.

    In a search, as above, torch and torchvision are loaded already; for `hkbench data build` they aren't.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", ALONE, str(size), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return len(source.ids) / float(done.stdout)


def measure(quick: bool) -> Claim:
    """Time whole builds of goods69, one after the other, in turns."""
    source = open_source("goods69")
    repetitions = QUICK_REPETITIONS if quick else REPETITIONS
    details: dict[str, Any] = {
        "pictures": len(source.ids),
        **machine(threads="a process or thread for each core"),
        "repetitions": repetitions,
    }
    ratios = {}
    for size in SIZES[:1] if quick else SIZES:
        seconds, apart = _time_in_turns(source, size, repetitions)
        medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
        ratios[size] = min(medians[name] for name in BUILDS if name != "hkbench") / medians["hkbench"]
        details[f"{size}px"] = {
            "ratio": ratios[size],
            "pictures_per_second": {name: len(source.ids) / median for name, median in medians.items()},
            "hkbench_in_a_fresh_process": _alone(source, size),
            "first_build_s": {name: times[0] for name, times in seconds.items()},
            "largest_difference_of_pixels": apart,
        }
    return Claim(
        name="store_build",
        value=ratios[SIZES[0]],
        unit="× as fast as the faster of Pillow and torchvision",
        target="at least 1",
        holds=ratios[SIZES[0]] >= 1,
        details=details,
    )


def _time_in_turns(
    source: Source, size: int, repetitions: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Return the seconds of each build by name, the first loading what it needs, and how pixels differ."""
    seconds: dict[str, list[float]] = {name: [] for name in BUILDS}
    apart = {}
    for turn in range(repetitions + 1):
        found = {}
        for name, build in BUILDS.items():
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                pictures = build(source, size, Path(folder))
                seconds[name].append(time.perf_counter() - started)
                if turn == 0:
                    found[name] = np.array(pictures, dtype=np.int16)
        if turn == 0:
            apart = {name: int(np.abs(found[name] - found["hkbench"]).max()) for name in found}
    return seconds, apart


if __name__ == "__main__":
    main(measure)
