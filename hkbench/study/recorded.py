"""What a run directory has on record when a driver opens it: trials, their epochs, and what these cost."""

from collections import defaultdict
from collections.abc import Collection, Iterator

from hkbench.store.records import EpochRecord, TelemetryRecord, TrialRecord, Usage
from hkbench.store.rundir import RunDirectory


class Recorded:
    """The records of earlier runs, by trial. Of a trial's epochs those count that follow without a gap.

    A line that was torn leaves a gap: what comes after it is reported again from the checkpoint.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.ended: dict[int, TrialRecord] = {trial.number: trial for trial in run.trials()}
        self._epochs: dict[int, list[EpochRecord]] = defaultdict(list)
        self._usage: dict[int, dict[int, Usage]] = defaultdict(dict)
        for epoch in run.epochs():
            if isinstance(epoch.trial, int) and epoch.epoch == len(self._epochs[epoch.trial]) + 1:
                self._epochs[epoch.trial].append(epoch)
        for row in run.read(TelemetryRecord):
            if row.source == "trial" and row.epoch is not None:
                self._usage[int(row.name)][row.epoch] = row.usage

    def epochs(self, number: int) -> list[EpochRecord]:
        """Return a trial's epochs, from the first on without a gap."""
        return self._epochs.get(number, [])

    def usage(self, number: int) -> list[Usage]:
        """Return what these epochs cost."""
        known = self._usage.get(number, {})
        return [known[row.epoch] for row in self.epochs(number) if row.epoch in known]

    def costs(self, without: Collection[int] = ()) -> Iterator[tuple[EpochRecord, Usage | None]]:
        """Yield each epoch with its usage, but for those of some trials."""
        for number, epochs in self._epochs.items():
            if number not in without:
                known = self._usage.get(number, {})
                yield from ((row, known.get(row.epoch)) for row in epochs)

    def any_succeeded(self) -> bool:
        """Whether a trial was trained that did not fail."""
        return any(trial.state != "FAIL" and trial.epochs > 0 for trial in self.ended.values())
