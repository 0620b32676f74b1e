"""A fence around a run's checkpoints: workers of a driver that was killed live on, and must write nothing."""

import os
from dataclasses import dataclass, replace
from typing import NoReturn

from hkbench.errors import HkbenchError
from hkbench.trials.checkpoint_store import CheckpointStore

FILE = "fence"


class FencedOffError(HkbenchError):
    """A checkpoint that a worker may no longer write: a later driver, or another worker, has its trial."""


@dataclass(frozen=True, kw_only=True)
class Fence:
    """What lets a worker write: the number of its run, and of its trial's attempt, are still the newest.

    Both are read from files beside the checkpoints, which the driver alone writes. The run's is raised each
    time that the search is started, a trial's when it is taken from a worker that froze or was lost.
    """

    store: CheckpointStore
    run: int
    attempt: int = 0

    @classmethod
    def raised(cls, store: CheckpointStore) -> "Fence":
        """Raise the number of the run, which shuts out workers of earlier ones, and clear what they left."""
        number = (_number_in(store, FILE) or 0) + 1
        store.put(FILE, f"{number}\n".encode())
        store.clear(".*.tmp", "*.attempt", "*.hung")
        return cls(store=store, run=number)

    def of_attempt(self, attempt: int) -> "Fence":
        """Return the fence of a trial's worker."""
        return replace(self, attempt=attempt)

    def begin_attempt(self, trial: int, attempt: int) -> None:
        """Shut out the worker that a trial had before."""
        self.store.put(_attempts(trial), f"{attempt}\n".encode())

    def check(self, trial: int) -> None:
        """Refuse a worker that is no longer the one.

        Raises:
            FencedOffError: another run or another attempt has begun.
        """
        run, attempt = _number_in(self.store, FILE), _number_in(self.store, _attempts(trial)) or 0
        if run != self.run or attempt > self.attempt:
            raise FencedOffError(
                f"Trial {trial} has been taken over: this worker is of run {self.run}, attempt "
                f"{self.attempt}; now it is run {run}, attempt {attempt}."
            )


def _attempts(trial: int) -> str:
    return f"{trial:05d}.attempt"


def end_at_once() -> NoReturn:
    """End this process: whoever would hear of an error is gone."""
    os._exit(1)


def _number_in(store: CheckpointStore, name: str) -> int | None:
    try:
        return int(store.get(name))
    except (FileNotFoundError, ValueError):
        return None
