"""Probes of GPU memory in a process of their own, and kept: what is asked twice is measured once.

The process reads jobs line by line and answers each by a line: a probe, or why there is none.
"""

import importlib.metadata
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import torch
from pydantic import ValidationError

from hkbench.config import cache_dir
from hkbench.store import atomic
from hkbench.store.cache import key_of, read_kept, touch
from hkbench.training.gpu_memory import out_of_memory_of
from hkbench.training.memory_probe import (
    CudaMemory,
    Found,
    MemoryProbe,
    ProbeFailure,
    ProbeJob,
    Prober,
    measure_job,
)

log = logging.getLogger(__name__)

START_LIMIT_S = 120.0
JOB_LIMIT_S = 60.0
"""A job takes a second or two; a process that hangs is ended after this for each."""
LONGEST_REASON = 400
BEARING = ("hkbench", "torch", "timm")
"""Packages whose versions bear on a training's memory."""

# -P: a file of the user's working directory must not pass for a library.
WORKER = (sys.executable, "-P", "-m", "hkbench.training.memory_process")


def probe_memory(
    jobs: Sequence[ProbeJob], *, command: tuple[str, ...] = WORKER, job_limit_s: float = JOB_LIMIT_S
) -> list[Found]:
    """Measure jobs one after the other in one new process, on its first CUDA device, alone there.

    However that process ends, each job has an answer: those that it didn't come to fail with its reason.
    """
    try:
        done = subprocess.run(
            command,
            input="".join(f"{job.model_dump_json()}\n" for job in jobs),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=START_LIMIT_S + job_limit_s * len(jobs),
            check=False,
        )
        lines, why = done.stdout.splitlines(), _why_ended(done.returncode, done.stderr)
    except subprocess.TimeoutExpired as late:
        written = late.stdout or b""
        text = written if isinstance(written, str) else written.decode(errors="replace")
        lines, why = text.splitlines(), f"the probe's process was stopped after {late.timeout:g} s"
    found = [_parsed(line) for line in lines[: len(jobs)]]
    return found + [ProbeFailure(reason=why)] * (len(jobs) - len(found))


def known_or_probed(
    jobs: Sequence[ProbeJob], device_model: str, *, probe: Prober = probe_memory
) -> list[Found]:
    """Return a probe for each job, from the cache where this kind of GPU has been asked before.

    Args:
        jobs: what is asked.
        device_model: the GPU's name: what a network takes depends on it.
        probe: measures what the cache doesn't hold.
    """
    bearing = {name: importlib.metadata.version(name) for name in BEARING}
    keys = [key_of("memory", job.model_dump(mode="json"), device_model, bearing) for job in jobs]
    paths = [cache_dir() / "packing" / f"memory-{key}.json" for key in keys]
    known: dict[int, Found] = {}
    for number, path in enumerate(paths):
        kept = read_kept(path, MemoryProbe)
        if kept is not None:
            known[number] = kept
    new = [number for number in range(len(jobs)) if number not in known]
    for number, found in zip(new, probe([jobs[each] for each in new]) if new else [], strict=True):
        known[number] = found
        if isinstance(found, MemoryProbe):
            atomic.write_text(paths[number], found.model_dump_json() + "\n")
    for number, path in enumerate(paths):
        if isinstance(known[number], MemoryProbe):
            touch(path)
    return [known[number] for number in range(len(jobs))]


def _parsed(line: str) -> Found:
    for kind in (MemoryProbe, ProbeFailure):
        try:
            return kind.model_validate_json(line)
        except ValidationError:
            continue
    return ProbeFailure(reason=f"the probe's process gave no result: {line[:LONGEST_REASON]}")


def _why_ended(returncode: int, stderr: str) -> str:
    said = stderr.strip().splitlines()
    last = said[-1][:LONGEST_REASON] if said else ""
    return last or f"the probe's process ended with exit code {returncode}"


def answer(job: ProbeJob, measure: Callable[[ProbeJob], MemoryProbe]) -> Found:
    """Return a job's probe, or why it has none."""
    try:
        return measure(job)
    except Exception as error:  # one network that can't be probed must not cost the others their probes
        log.debug("the probe of %s failed", job.architecture.label, exc_info=True)
        memory = out_of_memory_of(error)
        text = (str(error).splitlines() or [""])[0]
        return ProbeFailure(
            reason=f"{type(error).__name__}: {text}"[:LONGEST_REASON],
            out_of_memory=memory is not None,
            asked_bytes=None if memory is None else memory.asked_bytes,
        )


def main() -> None:
    """Answer the jobs of standard input."""
    # Libraries in C print to standard output as they please: the answers get a pipe of their own.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    memory = CudaMemory()
    for line in sys.stdin:
        job = ProbeJob.model_validate_json(line)
        found = answer(job, lambda job: measure_job(job, torch.device("cuda"), memory))
        print(found.model_dump_json(), file=answers, flush=True)


if __name__ == "__main__":
    main()
