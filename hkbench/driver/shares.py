"""Which share of a GPU each trial of a search holds, and whether there is room for another.

`gpu_packing` says how large a share must be; this remembers who has one. Knows nothing of Ray.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from hkbench.driver.cluster import UNITS, Node, NodesNow, TrialResources, resources_of
from hkbench.driver.gpu_packing import GpuPacking, Verdict
from hkbench.driver.trial_records import LiveTrial
from hkbench.errors import HkbenchError
from hkbench.spaces.space import Space
from hkbench.store.records import TelemetryRecord, Usage
from hkbench.store.rundir import RunDirectory
from hkbench.trials.failures import Cause, Failure

STARTING_S = 30.0
"""A worker starts within seconds. A trial that has none for so long waits for a larger part of one GPU than
is free there: no other is asked for meanwhile, or small ones would keep it out for ever."""


class Shares(Protocol):
    """What a session asks of shares, and tells them of its trials."""

    def give(self, live: LiveTrial) -> TrialResources | None:
        """Return what a trial that is to start holds; None for what all trials hold."""

    def began(self, number: int) -> None:
        """A trial has its worker."""

    def ended(self, number: int) -> None:
        """A trial holds nothing any more."""

    def note(self, live: LiveTrial, usage: Usage) -> None:
        """An epoch of a trial has cost so much."""

    def verdict_on(self, live: LiveTrial, failure: Failure) -> Verdict | None:
        """Return what becomes of a trial that ran out of a GPU's memory; None if it failed otherwise."""


class Unshared:
    """All trials hold the same: on CPUs, and on GPUs of which nothing is known."""

    def give(self, live: LiveTrial) -> None:
        """Return nothing of its own for a trial."""

    def began(self, number: int) -> None:
        """Pass over it."""

    def ended(self, number: int) -> None:
        """Pass over it."""

    def note(self, live: LiveTrial, usage: Usage) -> None:
        """Pass over it."""

    def verdict_on(self, live: LiveTrial, failure: Failure) -> None:
        """Leave it to what holds for every failure."""


class GpuShares:
    """The shares of a search's live trials."""

    def __init__(
        self,
        packing: GpuPacking,
        look: Callable[[], Sequence[Node]],
        *,
        most: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`look` returns the nodes that are there, with a GPU at least; `most` is the user's limit."""
        self._packing = packing
        self._nodes = NodesNow(look, clock)
        self._first_nodes = self._nodes()
        self._most = most
        self._clock = clock
        self._held: dict[int, TrialResources] = {}
        self._waiting_since: dict[int, float] = {}

    def recall(self, run: RunDirectory, space: Space) -> None:
        """Take in what the trials that have ended are on record with: their memory, and where it ran out."""
        trials, failures = {}, []
        for trial in run.trials():
            with suppress(HkbenchError):  # a point of which no network could be made
                trials[trial.number] = settings = space.settings(trial.params)
                failures.append((settings, trial.failures))
        self._packing.recall(run.read(TelemetryRecord), trials)
        for settings, reasons in failures:
            self._packing.recall_failures(settings, reasons)

    @property
    def has_room(self) -> bool:
        """Whether the GPUs may hold one more trial, be it a small one."""
        if self._most is not None and len(self._held) >= self._most:
            return False
        now = self._clock()
        if any(now - since >= STARTING_S for since in self._waiting_since.values()):
            return False
        there = sum(int(node.gpus) for node in self._nodes())
        taken = sum(_units(held.gpus) for held in self._held.values())
        return not self._held or taken + _units(self._packing.least_share) <= there * UNITS

    def give(self, live: LiveTrial) -> TrialResources:
        """Return what a trial that is to start holds, by all that is known of it and of those like it."""
        for usage in live.usage:
            self.note(live, usage)
        self._packing.recall_failures(live.settings, [failure.reason for failure in live.failures])
        live.gpu_share = share = self._packing.share_of(live.settings)
        held = replace(
            resources_of(self._first_nodes, threads=1, gpu_share=share),
            memory_fraction=self._packing.memory_fraction(share),
        )
        self._held[live.asked.number] = held
        self._waiting_since[live.asked.number] = self._clock()
        return held

    def began(self, number: int) -> None:
        """A trial has its worker."""
        self._waiting_since.pop(number, None)

    def ended(self, number: int) -> None:
        """A trial holds nothing any more."""
        self._held.pop(number, None)
        self._waiting_since.pop(number, None)

    def note(self, live: LiveTrial, usage: Usage) -> None:
        """An epoch of a trial has cost so much: its memory bounds that of trials like it."""
        self._packing.note_usage(live.settings, usage)

    def verdict_on(self, live: LiveTrial, failure: Failure) -> Verdict | None:
        """Return what becomes of a trial that ran out of a GPU's memory; None if it failed otherwise."""
        if failure.cause != Cause.GPU_MEMORY or live.gpu_share is None:
            return None
        return self._packing.on_out_of_memory(
            live.asked.number, live.settings, live.gpu_share, failure.asked_bytes, failure.others_bytes
        )


def _units(share: float) -> int:
    return round(share * UNITS)
