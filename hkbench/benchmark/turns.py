"""Several files timed against each other in this process, in turns: for a choice, not for a record."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import TypeVar

import numpy as np

from hkbench.export.session import PICTURES, open_session
from hkbench.store.device_lock import HOST, alone_on

FEWEST_ROUNDS = 8
Key = TypeVar("Key", bound=Hashable)


def timed_in_turns(
    contents: Mapping[Key, bytes], image_size: int, *, batch: int = 1, threads: int = 1, seconds: float = 2.0
) -> dict[Key, float]:
    """Return the median time in ms of one inference of each file, on noise, on the CPU.

    Trainings pause meanwhile, and the files take turns, so that whatever else the machine does falls on all
    alike.

    Args:
        contents: ONNX files by any key.
        image_size: the side of their pictures.
        batch: pictures a call.
        threads: within one call.
        seconds: how long to measure all of them together, at least.
    """
    noise = np.random.default_rng(0).random((batch, 3, image_size, image_size), dtype=np.float32)
    sessions = {key: open_session(content, threads=threads) for key, content in contents.items()}
    calls = {key: partial(session.run, None, {PICTURES: noise}) for key, session in sessions.items()}
    with alone_on([HOST]):
        return in_turns(calls, seconds)


def in_turns(calls: Mapping[Key, Callable[[], object]], seconds: float) -> dict[Key, float]:
    """Return the median time in ms of each call; they take turns for at least so many seconds in all."""
    times: dict[Key, list[float]] = {key: [] for key in calls}
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or min(map(len, times.values())) <= FEWEST_ROUNDS:
        for key, call in calls.items():
            started = time.perf_counter()
            call()
            times[key].append((time.perf_counter() - started) * 1e3)
    return {key: statistics.median(found[1:]) for key, found in times.items()}  # the first is cold
