"""What a search writes down: epochs and ends of trials in the run directory, the ends in the study too."""

from typing import Any, Protocol, TypeVar

from hkbench.analysis.metrics import METRICS
from hkbench.driver.trial_records import LiveTrial, State, epoch_records, trial_record, unbuilt_record
from hkbench.spaces.settings import TrialSettings
from hkbench.spaces.space import Space
from hkbench.store.records import EpochRecord, Record, TrialRecord, Usage
from hkbench.store.rundir import RunDirectory
from hkbench.study.ask_tell import AskTell
from hkbench.study.costs import CostOf
from hkbench.study.points import Asked
from hkbench.trials.failures import GPU_BYTES, AlikeFailures
from hkbench.trials.patience import Patience

T = TypeVar("T")


class TrialListener(Protocol):
    """Who is told about trials as they go."""

    def trial_started(self, number: int, settings: TrialSettings, seed_point: str | None) -> None:
        """A trial begins, or goes on after an interruption."""

    def trial_epoch(self, epoch: EpochRecord) -> None:
        """A trial has trained one more epoch."""

    def trial_retried(self, number: int, reason: str, epoch: int) -> None:
        """A trial has failed after this epoch, and will go on from there."""

    def trial_ended(self, trial: TrialRecord) -> None:
        """A trial has ended and is on record."""


class Ledger:
    """Keeps the records, and tells the study and the listener; where storage is out of reach it waits.

    `hopeless` is the reason for which all trials have failed, once they are enough to expect it of the next.
    """

    def __init__(
        self,
        space: Space,
        study: AskTell,
        run: RunDirectory,
        costs: CostOf,
        listener: TrialListener,
        patiently: Patience,
        *,
        any_succeeded: bool,
    ) -> None:
        self._space = space
        self._study = study
        self._run = run
        self._costs = costs
        self._listener = listener
        self._patiently = patiently
        self._alike = AlikeFailures(any_succeeded)
        self.hopeless: str | None = None

    def epoch(
        self, live: LiveTrial, report: dict[str, Any], search_seconds: float | None = None
    ) -> tuple[EpochRecord, Usage]:
        """Record an epoch that a trial has reported, what it cost, and how long the search has taken."""
        epoch, telemetry = epoch_records(live, report, search_seconds)
        self._append(epoch)
        self._append(telemetry)
        live.last, live.recorded = report, epoch.epoch
        live.usage.append(telemetry.usage)
        self._listener.trial_epoch(epoch)
        return epoch, telemetry.usage

    def end(self, live: LiveTrial, state: State, reason: str | None) -> TrialRecord:
        """Record how a trial has ended."""
        cost = self._costs(live.settings.architecture, live.settings.precision)
        measured = {**cost.objectives(), **{name: live.last[name] for name in METRICS if name in live.last}}
        values: dict[str, float | None] = {
            name: measured[name] for name in self._space.objectives if name in measured
        }
        return self._keep(trial_record(live, state, reason, values, self._violations(measured)))

    def end_unbuilt(self, asked: Asked, reason: str) -> TrialRecord:
        """Record a point of which no network can be made, or none that exports."""
        return self._keep(unbuilt_record(asked, self._space.chosen(asked.params), reason))

    def tell(self, record: TrialRecord) -> None:
        """Tell the study how a trial has ended; once it knows, this changes nothing."""
        self._patiently(lambda: tell(self._study, record))

    def note_end(self, record: TrialRecord) -> None:
        """Learn from a trial's end whether others are worth a try."""
        if record.state != "PRUNED" or record.epochs > 0:
            self.hopeless = self._alike.note(record.reason if record.state == "FAIL" else None)

    def _keep(self, record: TrialRecord) -> TrialRecord:
        self._append(record)
        self.tell(record)
        self._listener.trial_ended(record)
        return record

    def _append(self, record: Record) -> None:
        self._patiently(lambda: self._run.append(record))

    def _violations(self, values: dict[str, float]) -> dict[str, float]:
        limits = self._space.constraints
        return {name: limits[name].violation(values[name]) for name in limits if name in values}


def tell(study: AskTell, record: TrialRecord) -> None:
    """Tell a study how a trial ended; once it knows, this changes nothing."""
    values = {name: value for name, value in record.values.items() if value is not None}
    if record.confirms is not None:
        reason = f"confirms trial {record.confirms}" + (f": {record.reason}" if record.reason else "")
        study.additions.tell_confirmed(record.number, record.state, values, reason)
    elif record.state == "COMPLETE":
        study.tell_complete(record.number, values, record.constraints)
    elif record.state == "PRUNED" and record.epochs == 0 and GPU_BYTES not in record.constraints:
        study.tell_refused(record.number, values, record.reason or "")
    elif record.state == "PRUNED":
        violations = {name: by for name, by in record.constraints.items() if name == GPU_BYTES}
        study.tell_pruned(record.number, values, record.reason or "", violations)
    else:
        study.tell_failed(record.number, record.reason or "")
