"""What the stopping rule is told of an epoch, from a report or from the record."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hkbench.analysis.trials import losses_of
from hkbench.scheduling.scheduler import BestCase, ParetoHalving
from hkbench.spaces.settings import TrialSettings
from hkbench.spaces.space import Schedule, Space
from hkbench.store.records import EpochRecord, TelemetryRecord, Usage
from hkbench.store.rundir import RunDirectory
from hkbench.study.costs import CostOf
from hkbench.study.points import Asked


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A trial after an epoch: its losses, by how much it breaks limits, and what it has spent.

    `spent` is in the schedule's unit; None where that is epochs.
    """

    number: int
    epoch: int
    losses: list[float]
    violation: float
    spent: float | None


def judged(space: Space, values: Mapping[str, Any], usage: Sequence[Usage]) -> Judged:
    """Return how a trial stands: `values` are its number, epoch, metrics and costs, `usage` all epochs'."""
    limits = space.constraints
    broken = (limits[name].violation(values[name]) for name in limits if values.get(name) is not None)
    return Judged(
        number=int(values["number"]),
        epoch=int(values["epoch"]),
        losses=losses_of(values, dict(space.objectives)),
        violation=sum(max(0.0, by) for by in broken),
        spent=_spent(space.schedule.unit, usage),
    )


def _spent(unit: str, usage: Sequence[Usage]) -> float | None:
    match unit:
        case "seconds":
            return sum(each.seconds for each in usage)
        case "gpu_seconds":
            return sum(each.gpu_seconds or 0.0 for each in usage)
        case _:
            return None


def recorded_epochs(
    space: Space, run: RunDirectory, unfinished: Sequence[Asked], costs: CostOf
) -> Iterator[Judged]:
    """Yield the epochs on record as they came: of trials that have ended, and of those that are to go on."""
    usage = {(row.name, row.epoch): row.usage for row in run.read(TelemetryRecord) if row.source == "trial"}
    trials = {trial.number: trial for trial in run.trials() if trial.settings and trial.confirms is None}
    settings = {number: TrialSettings.model_validate(trial.settings) for number, trial in trials.items()}
    begun = {row.trial for row in run.epochs()}
    settings |= {asked.number: space.settings(asked.params) for asked in unfinished if asked.number in begun}
    so_far: dict[int, list[Usage]] = {}
    for row in run.read(EpochRecord):
        if isinstance(row.trial, int) and row.trial in settings:
            found = settings[row.trial]
            cost = costs(found.architecture, found.precision).objectives()
            spent = so_far.setdefault(row.trial, [])
            spent += [known] if (known := usage.get((str(row.trial), row.epoch))) is not None else []
            yield judged(space, {**cost, "number": row.trial, "epoch": row.epoch, **row.metrics}, spent)


def rule_so_far(
    space: Space,
    run: RunDirectory,
    unfinished: Sequence[Asked],
    costs: CostOf,
    best_case: BestCase | None = None,
) -> ParetoHalving:
    """Return the halving rule, told of the epochs that are on record already."""
    rule = ParetoHalving(space.schedule, space.objectives, best_case)
    for epoch in recorded_epochs(space, run, unfinished, costs):
        rule.goes_on(
            epoch.number,
            epoch.epoch,
            epoch.losses,
            violation=epoch.violation,
            spent=epoch.spent,
            again=True,
        )
    return rule


def never_stopping(space: Space) -> ParetoHalving:
    """Return a rule that lets every trial train to its end."""
    epochs = space.schedule.max_epochs
    return ParetoHalving(Schedule(max_epochs=epochs, grace=epochs), space.objectives)
