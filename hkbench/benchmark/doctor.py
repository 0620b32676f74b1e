"""What hkbench makes of this machine: its facts, how it would be used, and what stands in the way."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hkbench.benchmark import machine
from hkbench.benchmark.devices import Missing, find, parse_device
from hkbench.benchmark.gpus import Gpus, find_gpus
from hkbench.benchmark.neighbours import Neighbours, watch_neighbours
from hkbench.benchmark.packing import (
    PackingMeasurement,
    best_packing,
    cached_packing,
    measure_packing,
)
from hkbench.errors import HkbenchError
from hkbench.store.environment import versions

WATCH_S = 1.0
BUSY_CORES = 0.25
LEAST_MEMORY_BYTES = 2 * 10**9
LEAST_DISK_BYTES = 5 * 10**9
LEAST_SHARED_BYTES = 300 * 10**6
"""Ray's object store is a little smaller."""
RAPL = Path("/sys/class/powercap/intel-rapl:0/energy_uj")
CLOCK = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")


@dataclass(frozen=True, kw_only=True)
class TorchFacts:
    """How torch would run here if nothing else were said; `cuda_reason` is why it sees no GPU."""

    threads: int
    omp_num_threads: str | None
    vector_instructions: str
    cuda_reason: str | None


@dataclass(frozen=True, kw_only=True)
class PackingAdvice:
    """How a search on the CPU would use the cores, and why; `failure` is why they couldn't be measured."""

    workers: int
    threads: int
    why: str
    measurement: PackingMeasurement | None
    failure: str | None


@dataclass(frozen=True, kw_only=True)
class Unmeasured:
    """Something that records would hold and that can't be measured here."""

    what: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Concern:
    """Something that stands in the way, and what to do about it."""

    problem: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All of it."""

    cpu: machine.Cpu
    cores: machine.Cores
    memory: machine.Memory
    neighbours: Neighbours
    torch: TorchFacts
    packing: PackingAdvice
    compiler: str | None
    gpus: Gpus
    versions: dict[str, str]
    cache: machine.Folder
    shared_memory: machine.Folder | None
    unmeasured: tuple[Unmeasured, ...]

    @property
    def concerns(self) -> tuple[Concern, ...]:
        """What a user should know and can do something about."""
        return (*_busy(self), *_packing_concerns(self.packing), *_room(self), *_gpu_concerns(self))


def diagnose(*, measure: bool | None = None, advance: Callable[[int, int], None] | None = None) -> Diagnosis:
    """Look at this machine; takes a few seconds, and some more where the packing is measured.

    Args:
        measure: measure the packing even if the cache holds it (True), not at all (False), or if it was
            never measured here (None).
        advance: called with (windows done, windows in all) of the packing.
    """
    neighbours = watch_neighbours(WATCH_S)
    gpus = find_gpus()
    return Diagnosis(
        cpu=machine.cpu(),
        cores=machine.cores(),
        memory=machine.memory(),
        neighbours=neighbours,
        packing=advise_packing(measure=measure, advance=advance),
        torch=_torch_facts(),
        compiler=machine.cpp_compiler(),
        gpus=gpus,
        versions=versions(),
        cache=machine.cache_folder(),
        shared_memory=machine.shared_memory(),
        unmeasured=unmeasured(gpus),
    )


def advise_packing(
    *, measure: bool | None = None, advance: Callable[[int, int], None] | None = None
) -> PackingAdvice:
    """Return what a search would use; see `diagnose`. A measurement that fails is told, not raised."""
    failure = None
    try:
        found = (
            cached_packing() if measure is False else measure_packing(advance=advance, again=measure is True)
        )
    except (HkbenchError, OSError) as error:
        found, failure = None, str(error)
    if found is not None:
        best = found.best
        return PackingAdvice(
            workers=best.workers, threads=best.threads, why=_why(found), measurement=found, failure=None
        )
    workers, threads = best_packing("cpu", cached_only=True)
    return PackingAdvice(
        workers=workers,
        threads=threads,
        why="not measured: one thread for each training" if failure is None else "the measurement failed",
        measurement=None,
        failure=failure,
    )


def unmeasured(gpus: Gpus, *, rapl: Path = RAPL, clock: Path = CLOCK) -> tuple[Unmeasured, ...]:
    """Return what can't be measured here.

    Args:
        gpus: what NVML tells.
        rapl: the processor's counter of energy.
        clock: the processor's clock at the moment.
    """
    found = []
    if gpus.reason is not None:
        found.append(Unmeasured(what="GPU usage", reason=gpus.reason))
    for index, device in enumerate(gpus.devices):
        found += [Unmeasured(what=f"GPU {index}", reason=text) for text in device.missing]
    if not os.access(rapl, os.R_OK):
        reason = (
            "only root may read its RAPL counter"
            if rapl.exists()
            else "the processor shows no RAPL counter here"
        )
        found.append(Unmeasured(what="CPU energy", reason=reason))
    if not os.access(clock, os.R_OK):
        found.append(Unmeasured(what="CPU clock", reason="the system doesn't show it (no cpufreq)"))
    return tuple(found)


def _torch_facts() -> TorchFacts:
    import torch  # here, because it takes seconds and help does without

    cuda = find(parse_device("cuda"))
    return TorchFacts(
        threads=torch.get_num_threads(),
        omp_num_threads=os.environ.get("OMP_NUM_THREADS"),
        vector_instructions=torch.backends.cpu.get_cpu_capability(),
        cuda_reason=cuda.reason if isinstance(cuda, Missing) else None,
    )


def _why(found: PackingMeasurement) -> str:
    if found.cores == 1:
        return "there is one core"
    fastest = max(row.pictures_per_s or 0.0 for row in found.rows)
    if found.best.pictures_per_s == fastest:
        return f"the fastest, measured {found.measured}"
    return (
        "as fast as the fastest within 3 %, and fewer threads each suffer less beside others; "
        f"measured {found.measured}"
    )


def _busy(found: Diagnosis) -> list[Concern]:
    taken = found.neighbours.cores
    if taken <= BUSY_CORES:
        return []
    names = ", ".join(f"{process.name} ({process.pid})" for process in found.neighbours.busiest)
    return [
        Concern(
            problem=f"Other processes take {taken:.1f} of {found.cores.usable} cores"
            f"{': ' + names if names else ''}.",
            remedy="Stop them or wait: times measured beside them are too long.",
        )
    ]


def _packing_concerns(packing: PackingAdvice) -> list[Concern]:
    if packing.failure is not None:
        return [
            Concern(
                problem=f"The packing couldn't be measured. {packing.failure}",
                remedy="A search uses one thread for each training until it is: hkbench doctor --measure.",
            )
        ]
    if packing.measurement is None:
        return [
            Concern(
                problem="How training is best packed onto the cores was never measured here.",
                remedy="Run hkbench doctor --measure while nothing else runs.",
            )
        ]
    taken = packing.measurement.neighbour_cores
    if taken <= BUSY_CORES:
        return []
    return [
        Concern(
            problem=f"The packing was measured while other processes took {taken:.1f} cores.",
            remedy="Run hkbench doctor --measure once they are gone.",
        )
    ]


def _room(found: Diagnosis) -> list[Concern]:
    concerns = []
    memory = found.memory
    ours = min(memory.available_bytes, memory.limit_bytes or memory.available_bytes)
    if ours < LEAST_MEMORY_BYTES:
        concerns.append(
            Concern(
                problem=f"{ours / 1e9:.1f} GB of memory are left; two trainings and Ray take about 2 GB.",
                remedy="Free some, or raise the container's limit.",
            )
        )
    if not found.cache.is_writable:
        concerns.append(
            Concern(
                problem=f"The cache {found.cache.path} can't be written to.",
                remedy="Let HKBENCH_CACHE name a folder that can.",
            )
        )
    if found.cache.free_bytes < LEAST_DISK_BYTES:
        concerns.append(
            Concern(
                problem=f"{found.cache.free_bytes / 1e9:.1f} GB are free where the cache lies.",
                remedy="Clean it with hkbench data prune, or let HKBENCH_CACHE name another folder.",
            )
        )
    shared = found.shared_memory
    if shared is not None and shared.free_bytes < LEAST_SHARED_BYTES:
        concerns.append(
            Concern(
                problem=f"{shared.path} has {shared.free_bytes / 1e6:.0f} MB free, Ray wants "
                f"{LEAST_SHARED_BYTES / 1e6:.0f}.",
                remedy="Start the container with --shm-size=512m.",
            )
        )
    return concerns


def _gpu_concerns(found: Diagnosis) -> list[Concern]:
    if not found.gpus.devices or found.torch.cuda_reason is None:
        return []
    return [
        Concern(
            problem=f"There is a GPU that can't be trained on: {found.torch.cuda_reason}.",
            remedy="Install a build of torch for its driver, and look at CUDA_VISIBLE_DEVICES.",
        )
    ]
