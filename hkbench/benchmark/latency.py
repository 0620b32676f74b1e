"""The measuring loop: how long one call takes, cold and steady."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

P90_SAMPLES = 64
P99_SAMPLES = 662
"""A percentile of fewer samples than these is the luck of a few calls: it is None instead."""

MIN_SECONDS = 0.5
"""Samples of a shorter stretch all see the machine in one mood."""

WARM_UP_CALLS = 10
WARM_UP_SHARE = 0.2
"""Warm-up ends after so many calls or this share of the time limit, whichever comes first."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds a call; `cold_ms` is the first call, which the percentiles leave out."""

    cold_ms: float
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    samples: int


def measure_latency(
    call: Callable[[], object], *, time_limit_s: float, clock: Callable[[], float] = time.perf_counter
) -> Latency:
    """Time `call` until there are enough samples for every percentile, or the time limit is spent.

    Args:
        call: does the work and returns when it is done (a GPU's work too).
        time_limit_s: sampling stops at the first call that ends past it, warm-up not counted.
        clock: seconds from any start.
    """
    cold_s = _timed(call, clock)
    _warm_up(call, clock, WARM_UP_SHARE * time_limit_s)
    samples_s = _sample(call, clock, time_limit_s)
    p50, p90, p99 = (float(value) * 1000 for value in np.percentile(samples_s, (50, 90, 99)))
    count = len(samples_s)
    return Latency(
        cold_ms=cold_s * 1000,
        p50_ms=p50,
        p90_ms=p90 if count >= P90_SAMPLES else None,
        p99_ms=p99 if count >= P99_SAMPLES else None,
        samples=count,
    )


def _timed(call: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return clock() - start


def _warm_up(call: Callable[[], object], clock: Callable[[], float], limit_s: float) -> None:
    spent_s = 0.0
    for _ in range(WARM_UP_CALLS):
        if spent_s >= limit_s:
            return
        spent_s += _timed(call, clock)


def _sample(call: Callable[[], object], clock: Callable[[], float], limit_s: float) -> list[float]:
    samples_s: list[float] = []
    start = clock()
    while True:
        samples_s.append(_timed(call, clock))
        spent_s = clock() - start
        enough = len(samples_s) >= P99_SAMPLES and spent_s >= MIN_SECONDS
        if enough or spent_s >= limit_s:
            return samples_s
