"""A study that goes on in a narrower space: what counts as one, and how points are asked for within it."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from optuna import Study as OptunaStudy
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from hkbench.spaces.parameters import CategoricalParameter, Parameter, Value
from hkbench.spaces.space import Space
from hkbench.study.costs import ArchitectureCost, broken_limits

OVER_LIMIT = "over the limit before training"
REDRAWS = 8
"""So often a sampler is asked again for a choice that the space still has, before chance takes one."""


def inside(space: Space, params: Mapping[str, Any]) -> bool:
    """Whether a point lies in the ranges of a space, as far as they name its parameters."""
    known = space.parameters
    return all(known[name].at(params).holds(value) for name, value in params.items() if name in known)


def why_not(space: Space, params: Mapping[str, Any], cost: ArchitectureCost, *, begun: bool) -> str | None:
    """Return why a point is not worth its first step; None if it is. One that has begun may lie outside."""
    broken = broken_limits(cost, space.constraints)
    if broken:
        return f"{OVER_LIMIT}: {', '.join(broken)}"
    return None if begun or inside(space, params) else f"{OVER_LIMIT}: outside the space, which was narrowed"


def differences(there: Space, wanted: Space) -> tuple[list[str], list[str]]:
    """Return in what a space is narrower than a study's, and how it differs else.

    Narrower are a range within the old one and fewer choices; a parameter whose conditions can't hold any
    more may be left out, and so may seed points.
    """
    narrower: list[str] = []
    other: list[str] = []
    for name in there.parameters.keys() | wanted.parameters.keys():
        old, new = there.parameters.get(name), wanted.parameters.get(name)
        if old == new:
            continue
        if old is None or new is None:
            fits = old is not None and not _may_be_active(old, wanted)
        else:
            fits = _is_within(old, new) and _same_conditions(old, new, wanted)
        text = f"{name}: {_text(old)} → {_text(new)}"
        (narrower if fits else other).append(text)
    gone = [point.name for point in there.start_with if point not in wanted.start_with]
    added = [point.name for point in wanted.start_with if point not in there.start_with]
    narrower += [f"seed points left out: {', '.join(gone)}"] if gone else []
    other += [f"seed points added: {', '.join(added)}"] if added else []
    return sorted(narrower), sorted(other)


def _is_within(old: Parameter, new: Parameter) -> bool:
    if (old.type, old.sets, old.default) != (new.type, new.sets, new.default):
        return False
    if isinstance(old, CategoricalParameter) or isinstance(new, CategoricalParameter):
        return set(new.choices) <= set(old.choices)  # type: ignore[union-attr]
    if old.log != new.log or old.step != new.step or old.follows != new.follows:
        return False
    if old.follows:
        return (old.low, old.high) == (new.low, new.high)
    return old.holds(new.limits({})[0]) and new.limits({})[1] <= old.limits({})[1]


def _same_conditions(old: Parameter, new: Parameter, wanted: Space) -> bool:
    """Whether conditions are the same but for values that their causes can't have any more."""
    return old.conditions.keys() == new.conditions.keys() and all(
        set(_possible(allowed, wanted.parameters.get(cause))) == set(new.conditions[cause])
        for cause, allowed in old.conditions.items()
    )


def _may_be_active(old: Parameter, wanted: Space) -> bool:
    return all(_possible(allowed, wanted.parameters.get(cause)) for cause, allowed in old.conditions.items())


def _possible(allowed: Sequence[Value], cause: Parameter | None) -> list[Value]:
    return [value for value in allowed if cause is not None and (cause.follows or cause.holds(value))]


def _text(parameter: Parameter | None) -> str:
    if parameter is None:
        return "none"
    if isinstance(parameter, CategoricalParameter):
        return f"[{', '.join(map(str, parameter.choices))}]"
    return f"{parameter.low} to {parameter.high}"


def widened(space: Space, choices: Mapping[str, Sequence[Value]]) -> Space:
    """Return a space whose categorical parameters have the choices that a study knows, in the study's order.

    Optuna lets ranges vary within a study, but not choices.
    """
    parameters = {
        name: parameter.model_copy(
            update={"choices": list(dict.fromkeys([*choices.get(name, ()), *parameter.choices]))}
        )
        if isinstance(parameter, CategoricalParameter) and set(choices.get(name, ())) - set(parameter.choices)
        else parameter
        for name, parameter in space.parameters.items()
    }
    return space.model_copy(update={"parameters": parameters})


class WithinSampler(BaseSampler):
    """Another sampler, held to the choices that a space has."""

    def __init__(self, sampler: BaseSampler, space: Space, seed: int) -> None:
        self._sampler = sampler
        self._rng = random.Random(seed)
        self._choices = {
            name: parameter.choices
            for name, parameter in space.parameters.items()
            if isinstance(parameter, CategoricalParameter)
        }

    def infer_relative_search_space(
        self, study: OptunaStudy, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what is sampled together, as the other sampler says."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: OptunaStudy, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return values of what is sampled together; those that the space lacks are to be drawn alone."""
        found: dict[str, Any] = {}
        for _ in range(REDRAWS):
            found = self._sampler.sample_relative(study, trial, search_space)
            if all(self._holds(name, value) for name, value in found.items()):
                break
        return {name: value for name, value in found.items() if self._holds(name, value)}

    def sample_independent(
        self, study: OptunaStudy, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a value of one parameter."""
        for _ in range(REDRAWS):
            value = self._sampler.sample_independent(study, trial, param_name, param_distribution)
            if self._holds(param_name, value):
                return value
        assert isinstance(param_distribution, CategoricalDistribution)
        return self._rng.choice(self._choices[param_name])

    def _holds(self, name: str, value: Any) -> bool:
        return name not in self._choices or value in self._choices[name]

    def reseed_rng(self) -> None:
        """Give the other sampler another seed."""
        self._sampler.reseed_rng()

    def before_trial(self, study: OptunaStudy, trial: FrozenTrial) -> None:
        """Pass on that a trial begins."""
        self._sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: OptunaStudy,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Pass on that a trial has ended."""
        self._sampler.after_trial(study, trial, state, values)
