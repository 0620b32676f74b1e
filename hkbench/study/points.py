"""Points of a space: as they are asked and told, what a study keeps beside them, and what makes two equal."""

import json
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from hkbench.errors import UsageError
from hkbench.spaces.parameters import is_number
from hkbench.spaces.settings import TrialSettings
from hkbench.spaces.space import MOST_POINTS, Space

SEED_POINT = "seed_point"
SAME_AS = "same_as"
REFUSED = "refused"
BESIDE = "beside"
"""Marks a trial that a search adds for a comparison: it isn't one of those that were asked for."""
CONFIRMS = "confirms"
"""Names the trial that this one trains again, from the seed `SEED`."""
SEED = "seed"
ENDED = "ended"
"""How a trial has ended, where that isn't by its values: `state`, `reason` and `last_values` in one, for each
write waits for the disk.
"""
AGAIN = "again"
"""Names the failed trial whose point this one tries again."""
STATES: dict[TrialState, Literal["COMPLETE", "PRUNED", "FAIL"]] = {
    TrialState.COMPLETE: "COMPLETE",
    TrialState.PRUNED: "PRUNED",
    TrialState.FAIL: "FAIL",
}
THAWS = "thaws"
"""Names the stopped trial that this one goes on from."""
FAILURES = "failures"
"""Of a trial that is tried again from its checkpoint: [cause, reason] of each failure."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A trial that the study knows to have ended."""

    asked: "Asked"
    state: Literal["COMPLETE", "PRUNED", "FAIL"]
    reason: str | None
    refused: bool


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A point that is to be trained; `thaws` is the number of the stopped trial that it goes on from.

    `confirms` is the number of the trial that it trains again, from a `seed` of its own.
    """

    number: int
    params: dict[str, Any]
    seed_point: str | None
    thaws: int | None = None
    confirms: int | None = None
    seed: int | None = None

    def settings(self, space: Space) -> TrialSettings:
        """Return all settings of the point in its space.

        Raises:
            UsageError: no network can be made of them.
        """
        found = space.settings(self.params)
        return found if self.seed is None else found.model_copy(update={"seed": self.seed})


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A point that a sampler of our own proposes; `thaws` is the number of a stopped trial to go on from."""

    params: dict[str, Any]
    thaws: int | None = None


Propose = Callable[[Collection[str]], Proposal | None]
"""Keys of the points that the study has had → the next point; None when nothing is left."""


def asked_of(trial: optuna.Trial | FrozenTrial, params: dict[str, Any]) -> Asked:
    """Return a trial of the study as it was asked."""
    attrs = trial.user_attrs
    return Asked(
        number=trial.number,
        params=dict(params),
        seed_point=attrs.get(SEED_POINT),
        thaws=attrs.get(THAWS),
        confirms=attrs.get(CONFIRMS),
        seed=attrs.get(SEED),
    )


def attrs_of(asked: Asked) -> dict[str, Any]:
    """Return what the study keeps of a trial beside its point; `asked_of` reads it."""
    confirming = asked.confirms is not None
    known = {
        SEED_POINT: asked.seed_point,
        THAWS: asked.thaws,
        CONFIRMS: asked.confirms,
        SEED: asked.seed,
        BESIDE: confirming or None,
    }
    return {name: value for name, value in known.items() if value is not None}


def ending(
    state: Literal["COMPLETE", "PRUNED", "FAIL"], reason: str, values: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Return what `ENDED` holds; `ended_as` reads it."""
    return {"state": state, "reason": reason, "last_values": dict(values or {})}


def ended_as(trial: FrozenTrial) -> Ended:
    """Return how a trial of the study has ended.

    To Optuna each confirmation is a failed trial, which no sampler looks at: what it is says `ENDED`.
    """
    end = trial.user_attrs.get(ENDED, {})
    return Ended(
        asked=asked_of(trial, trial.params),
        state=end.get("state", STATES[trial.state]),
        reason=end.get("reason"),
        refused=REFUSED in trial.user_attrs,
    )


def random_points(space: Space, count: int, seed: int) -> list[dict[str, Any]]:
    """Draw points of a space at random, each parameter by its own range and scale."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.choose(study.ask()) for _ in range(count)]


def shuffled_grid(space: Space, seed: int) -> list[dict[str, Any]]:
    """Return all points of a space in random order.

    Raises:
        UsageError: they have no end.
    """
    points = space.points()
    if points is None:
        raise UsageError(
            f"A grid needs a space that ends: {space.name} has a range without steps, or more than "
            f"{MOST_POINTS:,} points. Give its ranges a step, or take another sampler."
        )
    return shuffled(points, seed)


def shuffled(points: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Return points in random order."""
    return random.Random(seed).sample(points, len(points))


def point_key(params: dict[str, Any]) -> str:
    """Return a text that two points share when they are equal to six significant digits; 2 is 2.0."""
    return json.dumps(
        {name: float(f"{value:.6g}") if is_number(value) else value for name, value in params.items()},
        sort_keys=True,
    )
