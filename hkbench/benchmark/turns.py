"""Several files timed against each other in this process, in turns: for a choice, not for a record."""

import statistics
import time
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
import onnxruntime

from hkbench.export.session import PICTURES, open_session

FEWEST_ROUNDS = 8
Key = TypeVar("Key", bound=Hashable)


def timed_in_turns(
    contents: Mapping[Key, bytes], image_size: int, *, batch: int = 1, threads: int = 1, seconds: float = 2.0
) -> dict[Key, float]:
    """Return the median time in ms of one inference of each file, on noise, on the CPU.

    The files take turns, so that whatever else the machine does falls on all alike.

    Args:
        contents: ONNX files by any key.
        image_size: the side of their pictures.
        batch: pictures a call.
        threads: within one call.
        seconds: how long to measure all of them together, at least.
    """
    noise = np.random.default_rng(0).random((batch, 3, image_size, image_size), dtype=np.float32)
    sessions = {key: open_session(content, threads=threads) for key, content in contents.items()}
    times: dict[Key, list[float]] = {key: [] for key in sessions}
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or min(map(len, times.values())) <= FEWEST_ROUNDS:
        for key, session in sessions.items():
            times[key].append(_run_ms(session, noise))
    return {key: statistics.median(found[1:]) for key, found in times.items()}  # the first is cold


def _run_ms(session: onnxruntime.InferenceSession, noise: Any) -> float:
    begun = time.perf_counter()
    session.run(None, {PICTURES: noise})
    return (time.perf_counter() - begun) * 1e3
