"""The process of one row: reads a job from standard input, measures, writes the result to standard output.

It catches nothing: `isolate` reads the reason of a failed row from how the process ended.
"""

import os
import sys
import time

from hkbench.benchmark.devices import parse_device
from hkbench.benchmark.jobs import RowJob, RowResult
from hkbench.benchmark.latency import measure_latency
from hkbench.benchmark.runtimes import RUNTIMES
from hkbench.telemetry.sampler import Sampler


def measure(job: RowJob) -> RowResult:
    """Load the job's file, time it and say what that took, all within this process."""
    with Sampler(device_uuid=job.device_uuid) as sampler:
        start = time.perf_counter()
        call = RUNTIMES[job.runtime].load(job.path, parse_device(job.device), job.batch, job.threads)
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
    )


def main() -> None:
    """Do the one job that standard input holds."""
    # Libraries in C print to standard output as they please: the result gets a pipe of its own.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with answers:
        answers.write(measure(RowJob.model_validate_json(sys.stdin.read())).model_dump_json())


if __name__ == "__main__":
    main()
