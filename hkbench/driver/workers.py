"""What the driver knows of the workers: how long an epoch may take, who is late, what became of the lost."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from hkbench.driver.trial_records import LiveTrial
from hkbench.driver.watch import EpochLimit, Watch
from hkbench.trials.failures import Failure, OutOfMemoryKills, failure_of_worker
from hkbench.trials.watchdog import hang_file, take_hang


class Workers:
    """The watch over the workers of live trials."""

    def __init__(
        self,
        checkpoints: Path,
        max_epochs: int,
        epoch_limit_s: float | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Begin; hung workers leave a note among the checkpoints. None for a limit has it learned."""
        self._checkpoints = checkpoints
        self._limit = EpochLimit(epoch_limit_s)
        self._watch = Watch(self._limit, max_epochs, clock)
        self._out_of_memory = OutOfMemoryKills()

    def limit_s(self, live: LiveTrial) -> float | None:
        """Return how long an epoch of a trial may take; None while too little is known."""
        return self._limit.of(live.network)

    def began(self, live: LiveTrial) -> None:
        """A worker has been given a trial."""
        self._watch.began(live.asked.number, live.network, live.settings, live.recorded)

    def built(self, number: int) -> None:
        """A worker has built its trial."""
        self._watch.reported(number, None)

    def trained(self, live: LiveTrial, epoch: int, seconds: float | None) -> None:
        """A worker has trained an epoch, or, without seconds, reported one that was trained before."""
        self._watch.reported(live.asked.number, epoch)
        if seconds is not None:
            self._limit.note(live.network, seconds)

    def ended(self, number: int) -> None:
        """A trial has no worker any more."""
        self._watch.ended(number)

    def overdue(self, live: Mapping[int, LiveTrial]) -> list[int]:
        """Return those of the live trials whose workers have reported nothing for too long, each once."""
        late = [number for number in self._watch.look() if number in live]
        for number in late:
            live[number].overdue = True
            self._watch.ended(number)
        return late

    def failure_of(self, live: LiveTrial, said: str) -> Failure:
        """Return what became of a worker that is gone; `said` is what Ray says of it."""
        hung_at = take_hang(hang_file(self._checkpoints, live.asked.number))
        return failure_of_worker(said, hung_at, live.overdue, self._out_of_memory.risen())
