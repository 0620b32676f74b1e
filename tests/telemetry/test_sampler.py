"""The sampler and the tally on the host alone."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hkbench.store.records import Usage
from hkbench.telemetry.host import HostReading, read_host
from hkbench.telemetry.sampler import Sampler
from hkbench.telemetry.tally import Reading, Tally

MIB = 1 << 20


def spend(cpu_seconds: float) -> None:
    end = time.process_time() + cpu_seconds
    while time.process_time() < end:
        sum(range(1000))


def reading(
    moment_s: float, *, cpu: float = 0.0, rss: int = MIB, high_water: int | None = 10 * MIB
) -> Reading:
    host = HostReading(cpu_seconds=cpu, rss_bytes=rss, high_water_bytes=high_water)
    return Reading(moment_s=moment_s, host=host, gpu=None)


def test_host_reading_counts_the_work_of_this_process() -> None:
    before = read_host()
    spend(0.02)
    after = read_host()
    assert after.cpu_seconds - before.cpu_seconds >= 0.02
    assert after.rss_bytes > 0


def test_usage_holds_the_cost_of_the_block() -> None:
    with Sampler(interval_s=0.005) as sampler:
        spend(0.03)
        ballast = b"x" * (64 * MIB)
        peak = read_host().rss_bytes
        sampler.usage()
        del ballast
    usage = sampler.usage()
    assert usage.cpu_seconds is not None
    assert usage.cpu_seconds >= 0.03
    assert usage.seconds > 0
    assert usage.peak_rss_bytes is not None
    assert usage.peak_rss_bytes >= peak - MIB
    assert usage.gpu_seconds is None
    assert usage.peak_gpu_bytes is None
    assert usage.energy_j is None
    assert usage.gpu_reason == "the work was given no GPU"


def test_usage_stays_as_it_is_after_the_block() -> None:
    with Sampler() as sampler:
        pass
    first = sampler.usage()
    spend(0.01)
    assert sampler.usage() == first


def test_usage_grows_during_the_block() -> None:
    with Sampler() as sampler:
        first = sampler.usage()
        spend(0.01)
        assert sampler.usage().cpu_seconds >= first.cpu_seconds + 0.01  # type: ignore[operator]


def test_laps_add_up_to_the_whole() -> None:
    laps: list[Usage] = []
    with Sampler(interval_s=0.005) as sampler:
        for _ in range(3):
            spend(0.01)
            laps.append(sampler.lap())
    laps.append(sampler.lap())
    whole = sampler.usage()
    assert sum(lap.seconds for lap in laps) == pytest.approx(whole.seconds)
    assert sum(lap.cpu_seconds or 0 for lap in laps) == pytest.approx(whole.cpu_seconds)
    assert all(lap.cpu_seconds is not None and lap.cpu_seconds >= 0.01 for lap in laps[:3])


def test_work_that_raises_leaves_no_thread() -> None:
    def samplers() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "hkbench-sampler"]

    def broken_work() -> None:
        with Sampler():
            assert len(samplers()) == 1
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        broken_work()
    assert samplers() == []


def test_peak_between_two_samples_is_seen_by_the_high_water_mark() -> None:
    tally = Tally(reading(0, rss=5 * MIB, high_water=10 * MIB), None)
    tally.add(reading(1, rss=6 * MIB, high_water=12 * MIB))
    assert tally.usage().peak_rss_bytes == 12 * MIB


def test_high_water_mark_of_earlier_work_does_not_count() -> None:
    tally = Tally(reading(0, rss=5 * MIB, high_water=10 * MIB), None)
    tally.add(reading(1, rss=6 * MIB, high_water=10 * MIB))
    assert tally.usage().peak_rss_bytes == 6 * MIB


def test_system_without_high_water_mark_gives_the_sampled_peak() -> None:
    tally = Tally(reading(0, rss=5 * MIB, high_water=None), None)
    tally.add(reading(1, rss=7 * MIB, high_water=None))
    tally.add(reading(2, rss=6 * MIB, high_water=None))
    assert tally.usage().peak_rss_bytes == 7 * MIB


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10), st.integers(1, 1 << 40)), max_size=20))
def test_tally_spans_first_to_last(steps: list[tuple[float, float, int]]) -> None:
    tally = Tally(reading(0, rss=1, high_water=None), "no GPU")
    moment = cpu = 0.0
    for seconds, cpu_seconds, rss in steps:
        moment, cpu = moment + seconds, cpu + cpu_seconds
        tally.add(reading(moment, cpu=cpu, rss=rss, high_water=None))
    usage = tally.usage()
    assert usage.seconds == moment
    assert usage.cpu_seconds == cpu
    assert usage.peak_rss_bytes == max([1, *(rss for _, _, rss in steps)])
    assert usage.gpu_reason == "no GPU"
