"""How a trial's end is recorded: from what it was asked and what it last reported."""

from dataclasses import dataclass, field
from typing import Any, Literal

from hkbench.analysis.metrics import METRICS
from hkbench.search.settings import TrialSettings
from hkbench.search.study import Asked
from hkbench.store.environment import now
from hkbench.store.records import TrialRecord, Usage
from hkbench.telemetry.tally import total_usage

State = Literal["COMPLETE", "PRUNED", "FAIL"]


@dataclass(kw_only=True)
class LiveTrial:
    """A trial that is under way; `last` is the epoch that it last reported, flat."""

    asked: Asked
    settings: TrialSettings
    started: str
    last: dict[str, Any] = field(default_factory=dict)
    usage: list[Usage] = field(default_factory=list)


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
        params=live.asked.params,
        settings=live.settings.model_dump(),
        seed_point=live.asked.seed_point,
        model=live.settings.architecture.label,
        image_size=live.settings.image_size,
        loss=loss.name,
        weight_hard=loss.weight_hard,
        weight_soft=loss.weight_soft,
        loss_weights=dict(loss.weights),
        temperature=loss.temperature,
        epochs=int(last.get("epoch", 0)),
        values=values,
        metrics={name: last[name] for name in METRICS if name in last},
        constraints=violations,
        usage=total_usage(live.usage),
        device=last.get("device"),
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
