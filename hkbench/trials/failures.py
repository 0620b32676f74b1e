"""What a failed trial failed of, and whether to try it again."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

MEMORY_RETRIES = 1
"""Memory that ran short once may have been a neighbour's doing; twice, it is the trial's."""
GPU_BYTES = "gpu_bytes"
"""Under what name a trial that a whole GPU doesn't hold breaks a limit: by the bytes that it asked for."""
ALIKE = 5
"""So many trials that fail for the same reason, with none that did not, end a search: the next will too."""
CGROUP_EVENTS, HOST_EVENTS = Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat")


class Cause(StrEnum):
    """What ended a trial's worker, or its training."""

    ERROR = "error"
    """An exception that would come again: a loss that is no number, settings that don't fit."""
    WORKER = "worker"
    NODE = "node"
    HANG = "hang"
    MEMORY = "memory"
    GPU_MEMORY = "gpu_memory"
    STORAGE = "storage"
    """A disk that could not be read or written for a while."""
    NO_ROOM = "no_room"
    """A full disk: the next trial would find it as full, so it ends the search."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an attempt at a trial ended, in words for the record too.

    Of one that ran out of a GPU's memory: the bytes that it asked for at last, and what other processes
    held meanwhile, each None where that isn't known.
    """

    cause: Cause
    reason: str
    asked_bytes: int | None = None
    others_bytes: int | None = None

    @classmethod
    def reported(cls, report: Mapping[str, Any]) -> Self:
        """Return what a worker has reported of a trial that can't go on."""
        return cls(
            cause=Cause(report["cause"]),
            reason=str(report["failed"]),
            asked_bytes=report.get("oom_asked_bytes"),
            others_bytes=report.get("oom_others_bytes"),
        )


def retries(failure: Failure, earlier: Sequence[str], most: int) -> bool:
    """Whether a trial is tried again from its checkpoint, after the causes of `earlier` attempts.

    At most `most` times in all; an exception that would come again is not, and memory once. That a share of
    a GPU was too small is no fault of the trial's, and doesn't count.
    """
    counted = sum(cause != Cause.GPU_MEMORY for cause in earlier)
    if failure.cause in (Cause.ERROR, Cause.GPU_MEMORY, Cause.NO_ROOM) or counted >= most:
        return False
    return failure.cause != Cause.MEMORY or earlier.count(Cause.MEMORY) < MEMORY_RETRIES


def final_reason(failure: Failure, attempts: int) -> str:
    """Return the reason of a trial that is given up after so many attempts."""
    return failure.reason if attempts == 1 else f"{failure.reason} (attempt {attempts}, the last)"


def failure_of_worker(said: str, hung_at: str | None, overdue: bool, out_of_memory: bool) -> Failure:
    """Return what became of a worker that is gone.

    Args:
        said: what Ray says of it.
        hung_at: where its own watchdog found it.
        overdue: whether the driver ended it, for it had not reported for too long.
        out_of_memory: whether the system has ended processes for memory meanwhile.
    """
    if hung_at is not None:
        return Failure(cause=Cause.HANG, reason=f"the epoch took too long: it hung at {hung_at}")
    if overdue:
        return Failure(cause=Cause.HANG, reason="the worker process froze: it reported nothing for too long")
    if "OutOfMemory" in said or "running low on memory" in said:
        return Failure(cause=Cause.MEMORY, reason="the memory of its node ran out (RAM), and Ray ended it")
    if out_of_memory:
        return Failure(cause=Cause.MEMORY, reason="the memory ran out (RAM), and the system ended it")
    if "node has died" in said or "node died" in said or "NodeDied" in said:
        return Failure(cause=Cause.NODE, reason="its node was lost")
    return Failure(cause=Cause.WORKER, reason="the worker process was lost")


class OutOfMemoryKills:
    """Counts the processes that the kernel has ended for memory, here and since the last look."""

    def __init__(self, paths: Sequence[Path] = (CGROUP_EVENTS, HOST_EVENTS)) -> None:
        self._paths = paths
        self._before = self._count()

    def risen(self) -> bool:
        """Whether there were more since the last look."""
        before, self._before = self._before, self._count()
        return self._before > before

    def _count(self) -> int:
        for path in self._paths:
            try:
                found = re.search(r"^oom_kill (\d+)$", path.read_text(encoding="ascii"), re.MULTILINE)
            except (OSError, UnicodeDecodeError):
                continue
            if found is not None:
                return int(found[1])
        return 0


class AlikeFailures:
    """Notices a search in which nothing but one failure happens."""

    def __init__(self, any_before: bool) -> None:
        """Begin; `any_before` says whether a trial has ended otherwise in an earlier run."""
        self._reasons: list[str] | None = None if any_before else []

    def note(self, reason: str | None) -> str | None:
        """Take in a trial's end, None if it didn't fail; return the reason of all so far if it is one."""
        if reason is None:
            self._reasons = None
        if self._reasons is None:
            return None
        self._reasons.append(without_numbers(reason or ""))
        if len(self._reasons) < ALIKE or len(set(self._reasons)) > 1:
            return None
        return reason


def without_numbers(reason: str) -> str:
    """Return a reason without its numbers, which differ between trials that fail alike."""
    return re.sub(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?|\bnan\b|-?\binf\b", "#", reason)
