"""The driver's side of a search: which trial comes next, what each reported, when to stop.

Knows nothing of Ray: `runner` turns Ray Tune's calls into these.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from hkbench.analysis.metrics import METRICS
from hkbench.errors import HkbenchError, UsageError
from hkbench.models.architecture import Architecture
from hkbench.search.costs import ArchitectureCost, broken_limits
from hkbench.search.plan import SearchPlan
from hkbench.search.settings import TrialSettings
from hkbench.search.study import Asked, Study
from hkbench.search.trial_records import LiveTrial, State, trial_record, unbuilt_record
from hkbench.store.environment import now
from hkbench.store.records import EpochRecord, TelemetryRecord, TrialRecord, Usage
from hkbench.store.rundir import RunDirectory

MOST_REFUSED = 200
"""So many points in a row that break a limit before training end a search: it would ask for ever."""
USAGE = tuple(name for name in Usage.model_fields if name != "schema_version")


class TrialListener(Protocol):
    """Who is told about trials as they go."""

    def trial_started(self, number: int, settings: TrialSettings, seed_point: str | None) -> None:
        """A trial begins, or goes on after an interruption."""

    def trial_epoch(self, epoch: EpochRecord) -> None:
        """A trial has trained one more epoch."""

    def trial_ended(self, trial: TrialRecord) -> None:
        """A trial has ended and is on record."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A trial to start: its settings, and how many of its epochs are on record already."""

    number: int
    settings: TrialSettings
    recorded_epochs: int
    costs: ArchitectureCost


class SearchSession:
    """Asks the study, keeps the records, and tells the study what came of each trial."""

    def __init__(
        self,
        plan: SearchPlan,
        study: Study,
        run: RunDirectory,
        costs: Callable[[Architecture, str], ArchitectureCost],
        listener: TrialListener,
    ) -> None:
        self._plan = plan
        self._study = study
        self._run = run
        self._costs = costs
        self._listener = listener
        self._live: dict[int, LiveTrial] = {}
        self._unfinished = study.running()
        self._ended = {trial.number: trial for trial in run.trials()}
        self._epochs = run.epochs()
        self._usage = run.read(TelemetryRecord)
        self._limit = plan.space.schedule.trials
        self._deadline: float | None = None
        self._epoch_seconds: list[float] = []
        self._refused = 0
        self.interrupted = False
        self.fault: Exception | None = None
        self.exhausted = False

    def start_clock(self, budget_s: float | None) -> None:
        """Start the budget of wall time."""
        self._deadline = time.perf_counter() + budget_s if budget_s is not None else None

    def insist(self, asked: Asked) -> None:
        """Let a trial run next, whatever the number of trials."""
        self._unfinished.append(asked)

    @property
    def out_of_budget(self) -> bool:
        """Whether the time is up."""
        return self._deadline is not None and time.perf_counter() >= self._deadline

    @property
    def _too_late_for_another(self) -> bool:
        """Whether the time that is left is shorter than the longest epoch so far."""
        if self._deadline is None or not self._epoch_seconds:
            return False
        return self._deadline - time.perf_counter() < max(self._epoch_seconds)

    @property
    def over(self) -> bool:
        """Whether nothing may go on: the user or a fault has stopped the search, or the time is up."""
        return self.interrupted or self.fault is not None or self.out_of_budget

    def next_trial(self) -> Ready | None:
        """Return the next trial to train: first those that were cut off, then what the study proposes."""
        while not self.over and not self._too_late_for_another:
            if self._unfinished:
                asked = self._unfinished.pop(0)
            elif self._study.trained() + len(self._live) < self._limit:
                fresh = self._study.ask() if self._refused < MOST_REFUSED else None
                if fresh is None:
                    self.exhausted = True
                    return None
                asked = fresh
            else:
                return None
            ready = self._admit(asked)
            if ready is not None:
                return ready
        return None

    def _admit(self, asked: Asked) -> Ready | None:
        """Start a trial, unless it has ended on record already or its architecture alone breaks a limit."""
        if asked.number in self._ended:  # a kill came between the record and the study
            self._tell(self._ended[asked.number])
            return None
        try:
            settings = self._plan.space.settings(asked.params)
            cost = self._costs(settings.architecture, settings.precision)
        except HkbenchError as error:  # a combination that no check of the space had met
            self._refused += 1
            self._end_unbuilt(asked, str(error))
            return None
        self._live[asked.number] = live = LiveTrial(asked=asked, settings=settings, started=now())
        broken = broken_limits(cost, self._plan.space.constraints)
        if broken:
            self._refused += 1
            self._end(asked.number, "PRUNED", f"over the limit before training: {', '.join(broken)}")
            return None
        self._refused = 0
        recorded = self._recorded_epochs(asked.number)
        if recorded:
            live.last = {**_flat(recorded[-1]), **cost.objectives()}
            live.usage = self._recorded_usage(asked.number)
            if recorded[-1].epoch >= self._plan.space.schedule.max_epochs:
                self._end(asked.number, "COMPLETE", None)
                return None
        self._listener.trial_started(asked.number, settings, asked.seed_point)
        return Ready(number=asked.number, settings=settings, recorded_epochs=len(recorded), costs=cost)

    def _recorded_epochs(self, number: int) -> list[EpochRecord]:
        return [row for row in self._epochs if row.trial == number]

    def _recorded_usage(self, number: int) -> list[Usage]:
        rows = {
            row.epoch: row.usage for row in self._usage if row.source == "trial" and row.name == str(number)
        }
        return list(rows.values())

    def on_epoch(self, result: dict[str, Any]) -> None:
        """Record an epoch that a trial reported."""
        number = int(result["number"])
        live = self._live.get(number)
        if live is None:
            return
        live.last = result
        self._epoch_seconds.append(result["seconds"])
        epoch = EpochRecord(
            trial=number,
            epoch=int(result["epoch"]),
            train_loss=result["train_loss"],
            learning_rate=result["learning_rate"],
            seconds=result["seconds"],
            metrics={name: result[name] for name in METRICS},
        )
        usage = Usage(**{name: result[f"usage_{name}"] for name in USAGE})
        live.usage.append(usage)
        self._run.append(epoch)
        self._run.append(
            TelemetryRecord(
                source="trial",
                name=str(number),
                epoch=epoch.epoch,
                usage=usage,
                node=result["node"],
                device=result["device"],
            )
        )
        self._listener.trial_epoch(epoch)

    def on_end(self, number: int, result: dict[str, Any] | None) -> None:
        """Record that a trial is over; None for a result says that its worker was lost.

        Raises:
            UsageError: its worker found no room on the disk, and neither will another trial's.
        """
        if number not in self._live:
            return
        if result is None:
            if not self.interrupted:
                self._end(number, "FAIL", "the worker process was lost")
            return
        if result.get("no_room"):
            raise UsageError(str(result["failed"]))
        if "failed" in result:
            self._end(number, "FAIL", str(result["failed"]))
            return
        self.on_epoch(result)
        if int(result["epoch"]) >= self._plan.space.schedule.max_epochs:
            self._end(number, "COMPLETE", None)
        else:
            why = "out of budget" if self.out_of_budget else "beaten by others at this epoch"
            self._end(number, "PRUNED", why)

    def close(self) -> None:
        """End what the budget has cut off; after an interruption or a fault leave it to be resumed."""
        if self.interrupted or self.fault is not None:
            return
        for number, live in list(self._live.items()):
            if live.last:
                self._end(number, "PRUNED", "out of budget")
            else:
                self._end(number, "FAIL", "out of budget before the end of its first epoch")

    def _violations(self, values: dict[str, float]) -> dict[str, float]:
        limits = self._plan.space.constraints
        return {name: limits[name].violation(values[name]) for name in limits if name in values}

    def _end(self, number: int, state: State, reason: str | None) -> None:
        live = self._live.pop(number)
        cost = self._costs(live.settings.architecture, live.settings.precision)
        measured = {**cost.objectives(), **{name: live.last[name] for name in METRICS if name in live.last}}
        objectives = self._plan.space.objectives
        values: dict[str, float | None] = {name: measured[name] for name in objectives if name in measured}
        violations = self._violations(measured)
        self._keep(trial_record(live, state, reason, values, violations))

    def _end_unbuilt(self, asked: Asked, reason: str) -> None:
        """End a point of which no network can be made, or none that exports."""
        self._keep(unbuilt_record(asked, self._plan.space.chosen(asked.params), reason))

    def _keep(self, record: TrialRecord) -> None:
        """Record a trial's end, and tell the study and the listener of it."""
        self._run.append(record)
        self._tell(record)
        self._listener.trial_ended(record)

    def _tell(self, record: TrialRecord) -> None:
        values = {name: value for name, value in record.values.items() if value is not None}
        if record.state == "COMPLETE":
            self._study.tell_complete(record.number, values, record.constraints)
        elif record.state == "PRUNED" and record.epochs == 0:
            self._study.tell_refused(record.number, values, record.reason or "")
        elif record.state == "PRUNED":
            self._study.tell_pruned(record.number, values, record.reason or "")
        else:
            self._study.tell_failed(record.number, record.reason or "")


def _flat(epoch: EpochRecord) -> dict[str, Any]:
    return {"number": epoch.trial, "epoch": epoch.epoch, **epoch.metrics}
