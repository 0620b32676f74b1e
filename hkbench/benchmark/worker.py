"""The process of one row: reads a job from standard input, measures, writes the result to standard output.

Once it has started it pauses the trainings on its device, of this hkbench and of others, until it is done. It
catches nothing: `isolate` reads the reason of a failed row from how the process ended.
"""

import os
import sys
import time
from collections.abc import Callable

from hkbench.benchmark.devices import parse_device
from hkbench.benchmark.energy import measure_energy_of
from hkbench.benchmark.jobs import EnergyResult, RowJob, RowResult
from hkbench.benchmark.latency import measure_latency
from hkbench.benchmark.runtimes import RUNTIMES
from hkbench.errors import HkbenchError
from hkbench.store.device_lock import alone_on, devices_of
from hkbench.telemetry.nvml import Gpu
from hkbench.telemetry.sampler import Sampler


def measure(job: RowJob) -> RowResult:
    """Load the job's file, time it and say what that took, all within this process."""
    with alone_on(devices_of(job.device_uuid)) as alone, Sampler(device_uuid=job.device_uuid) as sampler:
        start = time.perf_counter()
        call = _loaded(job)
        load_s = time.perf_counter() - start
        latency = measure_latency(call, time_limit_s=job.time_limit_s)
    return RowResult(
        load_ms=load_s * 1000,
        cold_ms=latency.cold_ms,
        p50_ms=latency.p50_ms,
        p90_ms=latency.p90_ms,
        p99_ms=latency.p99_ms,
        samples=latency.samples,
        usage=sampler.usage(),
        alone=alone,
    )


def measure_energy(job: RowJob, seconds: float) -> EnergyResult:
    """Load the job's file and say what a call takes from its GPU's counter, in two stretches of `seconds`."""
    gpu = Gpu(str(job.device_uuid))

    def counter_j() -> float:
        reading = gpu.read()
        if reading.energy_j is None:
            raise HkbenchError("; ".join(reading.missing))
        return reading.energy_j

    call = _loaded(job)
    call()  # the first one also chooses kernels
    with alone_on([gpu.uuid]) as alone:
        found = measure_energy_of(call, counter_j, seconds=seconds)
    return EnergyResult(energy_mj=found.energy_mj, idle_w=found.idle_w, calls=found.calls, alone=alone)


def _loaded(job: RowJob) -> Callable[[], object]:
    return RUNTIMES[job.runtime].load(job.path, parse_device(job.device), job.batch, job.threads)


def main() -> None:
    """Do the one job that standard input holds."""
    # Libraries in C print to standard output as they please: the result gets a pipe of its own.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    job = RowJob.model_validate_json(sys.stdin.read())
    found = measure(job) if job.energy_seconds is None else measure_energy(job, job.energy_seconds)
    with answers:
        answers.write(found.model_dump_json())


if __name__ == "__main__":
    main()
