"""How much of the cores that are ours to use other processes take."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass

import psutil

BUSIEST = 3
IDLE_FIELDS = ("idle", "iowait")
COUNTED_TWICE = ("guest", "guest_nice")
"""Linux counts a guest's time as its host's user time too."""


@dataclass(frozen=True, kw_only=True)
class BusyProcess:
    """Another process; `cores` is its CPU time over wall time."""

    pid: int
    name: str
    cores: float


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """What others took, in cores: CPU time over wall time. A hypervisor's steal counts as theirs."""

    cores: float
    seconds: float
    busiest: tuple[BusyProcess, ...]


@dataclass(frozen=True, kw_only=True)
class CpuSnapshot:
    """CPU time in seconds, counted from some beginning, at one moment.

    `busy_s` is that of the cores that this process may use, `own_s` that of this process and of all that it
    has started, `others` that of every other process: (pid, name) → seconds.
    """

    moment_s: float
    busy_s: float
    own_s: float
    others: dict[tuple[int, str], float]


def take_snapshot(*, processes: bool = True) -> CpuSnapshot:
    """Read the counters; without `processes` only the sums, which is faster."""
    me = psutil.Process()
    family = [me, *me.children(recursive=True)]
    ours = {process.pid for process in family}
    return CpuSnapshot(
        moment_s=time.perf_counter(),
        busy_s=_busy_s(),
        own_s=sum(_cpu_s(process, ended_children=True) for process in family),
        others=_others(ours) if processes else {},
    )


def neighbours_between(before: CpuSnapshot, after: CpuSnapshot) -> Neighbours:
    """Return what other processes took between two moments."""
    seconds = after.moment_s - before.moment_s
    taken = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    found = [
        BusyProcess(pid=pid, name=name, cores=(cpu_s - before.others.get((pid, name), 0.0)) / seconds)
        for (pid, name), cpu_s in after.others.items()
        if (pid, name) in before.others
    ]
    found.sort(key=lambda process: -process.cores)
    return Neighbours(
        cores=max(0.0, taken / seconds),
        seconds=seconds,
        busiest=tuple(process for process in found[:BUSIEST] if process.cores >= 0.05),
    )


def watch_neighbours(seconds: float) -> Neighbours:
    """Look on for some seconds, doing nothing."""
    before = take_snapshot()
    time.sleep(seconds)
    return neighbours_between(before, take_snapshot())


def _busy_s() -> float:
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    cores = psutil.cpu_times(percpu=True)
    return sum(_busy_of(times) for core, times in enumerate(cores) if usable is None or core in usable)


def _busy_of(times: object) -> float:
    fields: dict[str, float] = times._asdict()  # type: ignore[attr-defined]
    return sum(value for name, value in fields.items() if name not in (*IDLE_FIELDS, *COUNTED_TWICE))


def _cpu_s(process: psutil.Process, *, ended_children: bool = False) -> float:
    with suppress(psutil.Error):
        times = process.cpu_times()
        ended = times.children_user + times.children_system if ended_children else 0.0
        return float(times.user + times.system + ended)
    return 0.0


def _others(ours: set[int]) -> dict[tuple[int, str], float]:
    found = {}
    for process in psutil.process_iter(["name"]):
        if process.pid not in ours:
            found[process.pid, process.info["name"] or "?"] = _cpu_s(process)
    return found
