"""How a trial's end is recorded: from what it was asked and what it last reported."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from hkbench.analysis.metrics import METRICS
from hkbench.driver.cluster import TrialResources
from hkbench.spaces.settings import TrialSettings
from hkbench.store.environment import now
from hkbench.store.records import EpochRecord, TelemetryRecord, TrialRecord, Usage
from hkbench.study.costs import ArchitectureCost
from hkbench.study.points import Asked
from hkbench.telemetry.tally import total_usage
from hkbench.trials.failures import Failure

State = Literal["COMPLETE", "PRUNED", "FAIL"]
USAGE = tuple(name for name in Usage.model_fields if name != "schema_version")
NUMBERS = ("epoch", "train_loss", "learning_rate", "seconds", *METRICS)
REPORTED = (*NUMBERS, *(f"usage_{name}" for name in USAGE), "node", "device")
"""What the report of an epoch holds, the first of it as numbers."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A trial to start: its settings, how many of its epochs are on record, and how long one may take.

    `attempt` counts how often it was taken from a worker in this run, `thaws` names the stopped trial that
    it goes on from. It holds what all trials hold, or `held` where they share GPUs.
    """

    number: int
    settings: TrialSettings
    recorded_epochs: int
    costs: ArchitectureCost
    attempt: int = 0
    epoch_limit_s: float | None = None
    thaws: int | None = None
    held: TrialResources | None = None


def problem_with(report: dict[str, Any]) -> str | None:
    """Return what is wrong with the report of an epoch; None if it can be recorded."""
    lacking = [name for name in REPORTED if name not in report]
    if lacking:
        return f"its report lacks {', '.join(lacking)}"
    bad = [
        name
        for name in NUMBERS
        if not isinstance(report[name], int | float) or not math.isfinite(report[name])
    ]
    return f"its report has no number for {', '.join(bad)}" if bad else None


def usage_of(report: dict[str, Any]) -> Usage:
    """Return what a reported epoch has cost."""
    return Usage(**{name: report[f"usage_{name}"] for name in USAGE})


def epoch_records(
    live: "LiveTrial", report: dict[str, Any], search_seconds: float | None
) -> tuple[EpochRecord, TelemetryRecord]:
    """Return the records of an epoch that a trial has reported, and how long the search had taken."""
    number = live.asked.number
    epoch = EpochRecord(
        trial=number,
        epoch=int(report["epoch"]),
        train_loss=report["train_loss"],
        learning_rate=report["learning_rate"],
        seconds=report["seconds"],
        search_seconds=None if search_seconds is None else round(search_seconds, 3),
        metrics={name: report[name] for name in METRICS},
    )
    telemetry = TelemetryRecord(
        source="trial",
        name=str(number),
        epoch=epoch.epoch,
        usage=usage_of(report),
        node=report["node"],
        device=report["device"],
        gpu_share=live.gpu_share,
    )
    return epoch, telemetry


@dataclass(kw_only=True)
class LiveTrial:
    """A trial that is under way; `last` is the epoch that it last reported, flat.

    Of its epochs, `recorded` are on record. `failures` are those of its earlier attempts, and `overdue` says
    that its worker was ended for having reported nothing. `gpu_share` is None where GPUs aren't shared,
    `broken` the limits that no figure tells: by how much its training has shown it to break them.
    """

    asked: Asked
    settings: TrialSettings
    started: str
    last: dict[str, Any] = field(default_factory=dict)
    usage: list[Usage] = field(default_factory=list)
    recorded: int = 0
    failures: list[Failure] = field(default_factory=list)
    attempts: int = 0
    overdue: bool = False
    gpu_share: float | None = None
    broken: dict[str, float] = field(default_factory=dict)

    @cached_property
    def network(self) -> str:
        """Its network by name and resolution."""
        return self.settings.architecture.label

    def take_up(self, epochs: Sequence[EpochRecord], usage: list[Usage], costs: dict[str, float]) -> None:
        """Go on after the epochs that are on record."""
        last = epochs[-1]
        self.last = {"number": last.trial, "epoch": last.epoch, **last.metrics, **costs}
        self.usage, self.recorded = usage, len(epochs)


def trial_record(
    live: LiveTrial,
    state: State,
    reason: str | None,
    values: dict[str, float | None],
    violations: dict[str, float],
) -> TrialRecord:
    """Return the record of a trial that has ended; `values` are its objectives."""
    loss, last = live.settings.loss_config, live.last
    return TrialRecord(
        number=live.asked.number,
        state=state,
        reason=reason,
        failures=[failure.reason for failure in live.failures],
        thaws=live.asked.thaws,
        params=live.asked.params,
        confirms=live.asked.confirms,
        settings=live.settings.model_dump(),
        seed_point=live.asked.seed_point,
        model=live.network,
        image_size=live.settings.image_size,
        loss=loss.name,
        weight_hard=loss.weight_hard,
        weight_soft=loss.weight_soft,
        loss_weights=dict(loss.weights),
        temperature=loss.temperature,
        epochs=int(last.get("epoch", 0)),
        values=values,
        metrics={name: last[name] for name in METRICS if name in last},
        constraints={**violations, **live.broken},
        usage=total_usage(live.usage),
        device=last.get("device"),
        gpu_share=live.gpu_share,
        precision=last.get("precision"),
        node=last.get("node"),
        started=live.started,
        ended=now(),
    )


def unbuilt_record(asked: Asked, chosen: dict[str, Any], reason: str) -> TrialRecord:
    """Return the record of a point of which no network can be made; `chosen` are its settings, unchecked."""
    return TrialRecord(
        number=asked.number,
        state="FAIL",
        reason=reason,
        params=asked.params,
        confirms=asked.confirms,
        settings={} if asked.seed is None else {"seed": asked.seed},
        seed_point=asked.seed_point,
        model=str(chosen.get("model")),
        image_size=int(chosen.get("image_size", 0)),
        loss=str(chosen.get("loss")),
        weight_hard=0.0,
        weight_soft=0.0,
        epochs=0,
        values={},
        ended=now(),
    )
