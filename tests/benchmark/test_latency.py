"""The measuring loop on a clock that the call itself moves."""

from collections.abc import Iterator
from itertools import chain, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hkbench.benchmark.latency import (
    MIN_SECONDS,
    P90_SAMPLES,
    P99_SAMPLES,
    WARM_UP_CALLS,
    Latency,
    measure_latency,
)


class Work:
    """Calls that take the seconds that they are told to."""

    def __init__(self, seconds: Iterator[float]) -> None:
        self.now = 0.0
        self.calls = 0
        self._seconds = seconds

    def __call__(self) -> None:
        self.calls += 1
        self.now += next(self._seconds)

    def measure(self, time_limit_s: float) -> Latency:
        return measure_latency(self, time_limit_s=time_limit_s, clock=lambda: self.now)


def test_cold_call_stands_apart() -> None:
    found = Work(chain([5.0], repeat(0.01))).measure(2.0)
    assert found.cold_ms == pytest.approx(5000)
    assert found.p50_ms == pytest.approx(10)
    assert found.p90_ms == pytest.approx(10)


def test_warm_up_is_not_sampled() -> None:
    work = Work(chain([1.0], repeat(0.1, WARM_UP_CALLS), repeat(0.01)))
    found = work.measure(6.0)
    assert found.p99_ms is None
    assert found.p50_ms == pytest.approx(10)
    assert work.calls == 1 + WARM_UP_CALLS + found.samples


def test_fast_calls_stop_when_every_percentile_has_its_samples() -> None:
    found = Work(repeat(0.001)).measure(60.0)
    assert found.samples == P99_SAMPLES
    assert found.p99_ms == pytest.approx(1)


def test_very_fast_calls_are_sampled_over_some_stretch_of_time() -> None:
    found = Work(repeat(2.0**-14)).measure(60.0)
    assert found.samples == MIN_SECONDS * 2**14


def test_slow_calls_stop_at_the_time_limit_without_percentiles() -> None:
    found = Work(repeat(0.5)).measure(2.0)
    assert found.samples == 4
    assert found.p50_ms == pytest.approx(500)
    assert found.p90_ms is None
    assert found.p99_ms is None


def test_a_call_longer_than_the_limit_still_gives_one_sample() -> None:
    work = Work(repeat(30.0))
    assert work.measure(1.0).samples == 1
    assert work.calls == 3


def test_percentiles_are_those_of_the_samples() -> None:
    hundred = [number / 100 for number in range(1, 101)]
    found = Work(chain([9.0], repeat(0.0, WARM_UP_CALLS), hundred)).measure(sum(hundred) - 0.5)
    assert found.samples == 100
    assert found.p50_ms == pytest.approx(505)
    assert found.p90_ms == pytest.approx(901)


@given(st.floats(1e-4, 2), st.lists(st.floats(1e-4, 0.5), min_size=1, max_size=50), st.floats(0.01, 5))
def test_percentiles_need_their_samples_and_are_in_order(
    cold: float, cycle: list[float], limit: float
) -> None:
    found = Work(chain([cold], (cycle[n % len(cycle)] for n in range(10**6)))).measure(limit)
    assert (found.p90_ms is None) == (found.samples < P90_SAMPLES)
    assert (found.p99_ms is None) == (found.samples < P99_SAMPLES)
    ordered = [value for value in (found.p50_ms, found.p90_ms, found.p99_ms) if value is not None]
    assert ordered == sorted(ordered)
    assert min(cycle) * 999 <= ordered[0]
    assert ordered[-1] <= max(cycle) * 1001


def test_a_call_that_raises_is_not_hidden() -> None:
    def broken() -> None:
        raise ValueError("no such batch")

    with pytest.raises(ValueError, match="no such batch"):
        measure_latency(broken, time_limit_s=1.0)
