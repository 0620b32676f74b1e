"""What one call takes from a GPU's energy counter, above what the device takes when idle."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from hkbench.benchmark.devices import Missing, find, parse_device
from hkbench.benchmark.runtimes import why_unmeasurable
from hkbench.errors import HkbenchError
from hkbench.telemetry.nvml import Gpu, NvmlUnavailableError
from hkbench.telemetry.tally import ENERGY_SECONDS


@dataclass(frozen=True, kw_only=True)
class Energy:
    """`energy_mj` is millijoules a call above idle, `idle_w` the watts that the idle device took."""

    energy_mj: float
    idle_w: float
    calls: int


def measure_energy_of(
    call: Callable[[], object],
    counter_j: Callable[[], float],
    *,
    seconds: float = ENERGY_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Energy:
    """Read the counter over a stretch of rest and one of calls, each of at least `seconds`.

    Args:
        call: does the work and returns when it is done.
        counter_j: joules since some moment; it moves every 20 to 100 ms, so shorter stretches say little.
        seconds: of each stretch.
        clock: seconds from any start.
        sleep: waits for so many seconds.

    Raises:
        HkbenchError: the calls took no more than the rest.
    """
    rest, begun = counter_j(), clock()
    sleep(seconds)
    idle_w = (counter_j() - rest) / (clock() - begun)
    calls = 0
    before, begun = counter_j(), clock()
    while clock() - begun < seconds:
        call()
        calls += 1
    spent_s = clock() - begun
    above_j = counter_j() - before - idle_w * spent_s
    if above_j <= 0:
        raise HkbenchError(
            f"the device's energy counter saw no more over {calls} calls than over a rest of the same length"
        )
    return Energy(energy_mj=1000 * above_j / calls, idle_w=idle_w, calls=calls)


def why_no_energy(device: str) -> str | None:
    """Return why energy can't be measured on a device, `cpu` or `cuda:0`; None if it can.

    Raises:
        UsageError: that is no device's name.
    """
    place = find(parse_device(device))
    if isinstance(place, Missing):
        return place.reason
    if place.uuid is None:
        return "a processor has no energy counter that every user may read"
    return why_unmeasurable(device) or why_no_counter(place.uuid)


def why_no_counter(uuid: str) -> str | None:
    """Return why a GPU's energy can't be read; None if it can. Cards before Volta have no counter."""
    try:
        reading = Gpu(uuid).read()
    except NvmlUnavailableError as error:
        return str(error)
    if reading.energy_j is not None:
        return None
    return next(reason for reason in reading.missing if reason.startswith("energy: "))
