"""One row, one fresh process: nothing that a row leaves behind, or breaks, reaches the next one."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from hkbench.benchmark.jobs import EnergyResult, RowJob, RowResult

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
LONGEST_REASON = 500

# -P: a file of the user's working directory must not pass for a library.
WORKER = (sys.executable, "-P", "-m", "hkbench.benchmark.worker")


Result = TypeVar("Result", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class RowFailure:
    """Why a row has no result."""

    reason: str


def measure_isolated(job: RowJob, *, timeout_s: float) -> RowResult | RowFailure:
    """Measure a row in a process of its own; however that ends, there is an answer.

    Args:
        job: the row.
        timeout_s: the process is killed after this, start, loading, waiting and measuring together.
    """
    return _isolated(job, RowResult, timeout_s)


def measure_energy_isolated(job: RowJob, *, timeout_s: float) -> EnergyResult | RowFailure:
    """Measure the energy that a job with `energy_seconds` asks for, in the same way."""
    return _isolated(job, EnergyResult, timeout_s)


def _isolated(job: RowJob, kind: type[Result], timeout_s: float) -> Result | RowFailure:
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(job.threads))
    try:
        done = subprocess.run(
            WORKER,
            input=job.model_dump_json(),
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return RowFailure(reason=f"the row's process was stopped after {timeout_s:g} s")
    if done.returncode:
        return RowFailure(reason=_reason(done.returncode, done.stderr))
    try:
        return kind.model_validate_json(done.stdout)
    except ValidationError as error:
        return RowFailure(reason=f"the row's process gave no result: {error.errors()[0]['msg']}")


def _reason(returncode: int, stderr: str) -> str:
    """Say how a process ended: by which signal, or with which error."""
    if returncode < 0:
        return f"the row's process was ended by {_signal_name(-returncode)}"
    error = _last_error(stderr)[:LONGEST_REASON]
    return error or f"the row's process ended with exit code {returncode}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_error(stderr: str) -> str:
    """Return the message, on one line, of the traceback that ends `stderr`; without one, its last line."""
    _, traceback, after = stderr.rpartition("Traceback (most recent call last):")
    lines = after.splitlines()
    if not traceback:
        return lines[-1].strip() if lines else ""
    message = [number for number, line in enumerate(lines) if line and not line[0].isspace()]
    return " ".join(" ".join(lines[message[0] :]).split()) if message else ""
