"""Which failures are tried again, and which end a search."""

import errno
from pathlib import Path

import pytest
import torch
from optuna.exceptions import StorageInternalError

from hkbench.errors import HkbenchError
from hkbench.training.loop import DivergedError
from hkbench.trials.failures import (
    ALIKE,
    AlikeFailures,
    Cause,
    Failure,
    OutOfMemoryKills,
    failure_of_worker,
    retries,
)
from hkbench.trials.patience import WAITS_S, Patience, StorageError
from hkbench.trials.trial import cause_of, failure_of


def failed(cause):
    return Failure(cause=cause, reason="why")


@pytest.mark.parametrize("cause", [Cause.WORKER, Cause.NODE, Cause.HANG, Cause.STORAGE])
def test_what_may_not_come_again_is_tried_again_as_often_as_asked(cause):
    assert retries(failed(cause), [], 2)
    assert retries(failed(cause), [cause], 2)
    assert not retries(failed(cause), [cause, Cause.WORKER], 2)
    assert not retries(failed(cause), [], 0)


@pytest.mark.parametrize("cause", [Cause.ERROR, Cause.GPU_MEMORY, Cause.NO_ROOM])
def test_what_would_come_again_is_not(cause):
    assert not retries(failed(cause), [], 2)


def test_a_share_that_was_too_small_is_no_attempt():
    assert retries(failed(Cause.WORKER), [Cause.GPU_MEMORY] * 5 + [Cause.NODE], 2)
    assert not retries(failed(Cause.WORKER), [Cause.GPU_MEMORY] * 5 + [Cause.NODE, Cause.HANG], 2)


def test_memory_is_tried_again_once():
    assert retries(failed(Cause.MEMORY), [Cause.WORKER], 5)
    assert not retries(failed(Cause.MEMORY), [Cause.MEMORY], 5)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (DivergedError("The loss became nan at step 3."), Cause.ERROR),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), Cause.ERROR),
        (KeyError("width"), Cause.ERROR),
        (FileNotFoundError("weights.pt"), Cause.ERROR),
        (OSError(errno.EIO, "Input/output error"), Cause.STORAGE),
        (OSError(errno.ESTALE, "Stale file handle"), Cause.STORAGE),
        (OSError(errno.ENOSPC, "No space left on device"), Cause.NO_ROOM),
        (MemoryError(), Cause.MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), Cause.MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), Cause.GPU_MEMORY),
    ],
)
def test_exceptions_by_whether_they_would_come_again(error, cause):
    assert cause_of(error) == cause
    wrapped = HkbenchError("wrapped")
    wrapped.__cause__ = error
    assert cause_of(wrapped) == cause


FULL = """CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 16.00 GiB of which
1.00 GiB is free. Including non-PyTorch memory, this process has 3.00 GiB memory in use. Of the allocated
memory 2.00 GiB is allocated by PyTorch, and 128.00 MiB is reserved by PyTorch but unallocated."""


def test_a_gpu_that_is_full_is_reported_with_what_was_asked_for_and_what_others_held():
    report = failure_of(torch.OutOfMemoryError(FULL))
    failure = Failure.reported(report)
    assert failure.cause == Cause.GPU_MEMORY
    assert (failure.asked_bytes, failure.others_bytes) == (2 * 1024**3, 12 * 1024**3)
    assert failure.reason.startswith("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
    unknown = Failure.reported(
        failure_of(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"))
    )
    assert (unknown.cause, unknown.asked_bytes, unknown.others_bytes) == (Cause.GPU_MEMORY, None, None)


def test_other_failures_say_nothing_of_a_gpu():
    report = failure_of(KeyError("width"))
    assert set(report) == {"failed", "cause"}
    assert Failure.reported(report) == Failure(cause=Cause.ERROR, reason="KeyError: 'width'")


DIED = "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task."


@pytest.mark.parametrize(
    ("found", "cause", "said"),
    [
        (("", None, False, False), Cause.WORKER, "the worker process was lost"),
        ((DIED, None, False, False), Cause.WORKER, "the worker process was lost"),
        ((DIED, "loop.py, line 3 (f)", False, False), Cause.HANG, "it hung at loop.py, line 3"),
        ((DIED, None, True, False), Cause.HANG, "froze"),
        ((DIED, None, False, True), Cause.MEMORY, "memory"),
        (("ray.exceptions.OutOfMemoryError: Task was killed", None, False, False), Cause.MEMORY, "memory"),
        (("The actor died because its node has died.", None, False, False), Cause.NODE, "node"),
    ],
)
def test_a_lost_worker_is_told_by_what_is_known(found, cause, said):
    failure = failure_of_worker(*found)
    assert failure.cause == cause
    assert said in failure.reason


def test_kills_for_memory_are_counted_from_now_on(tmp_path):
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 4\noom_kill 4\n")
    kills = OutOfMemoryKills([Path("/nonexistent"), events])
    assert not kills.risen()
    events.write_text("low 0\noom 5\noom_kill 5\n")
    assert kills.risen()
    assert not kills.risen()
    assert not OutOfMemoryKills([Path("/nonexistent")]).risen()


def reason(number):
    return f"The loss became nan at step {number} of epoch 1, at learning rate 1.3e+0{number}."


def test_failures_alike_but_for_their_numbers_end_a_search():
    alike = AlikeFailures(any_before=False)
    assert [alike.note(reason(number)) for number in range(ALIKE)] == [None] * (ALIKE - 1) + [
        reason(ALIKE - 1)
    ]


def test_one_that_succeeded_or_failed_otherwise_keeps_it_going():
    alike = AlikeFailures(any_before=False)
    alike.note(None)
    assert [alike.note(reason(number)) for number in range(9)] == [None] * 9
    alike = AlikeFailures(any_before=False)
    alike.note("the worker process was lost")
    assert [alike.note(reason(number)) for number in range(9)] == [None] * 9
    alike = AlikeFailures(any_before=True)
    assert [alike.note(reason(number)) for number in range(9)] == [None] * 9


class Disk:
    """Storage that fails so many times."""

    def __init__(self, failures, error):
        self.left, self.error, self.waits, self.mended = failures, error, [], 0

    def mend(self):
        self.mended += 1

    def write(self):
        if self.left:
            self.left -= 1
            raise self.error
        return "written"


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), StorageInternalError("no connection")])
def test_storage_out_of_reach_is_waited_for(error):
    disk = Disk(3, error)
    patiently = Patience("results/x", mend=disk.mend, sleep=disk.waits.append)
    assert patiently(disk.write) == "written"
    assert disk.waits == list(WAITS_S[:3])
    assert disk.mended == patiently.retried == 3


def test_storage_that_stays_away_ends_the_search_after_half_a_minute():
    disk = Disk(99, OSError(errno.ESTALE, "Stale file handle"))
    with pytest.raises(StorageError, match=r"results/x can't be reached.*--resume"):
        Patience("results/x", mend=disk.mend, sleep=disk.waits.append)(disk.write)
    assert 25 < sum(disk.waits) < 35


def test_a_full_disk_is_not_waited_for():
    disk = Disk(9, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space"):
        Patience("results/x", mend=disk.mend, sleep=disk.waits.append)(disk.write)
    assert disk.waits == []
