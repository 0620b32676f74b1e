"""Spaces: parameters, conditions, objectives, constraints, seed points and a schedule."""

from collections.abc import Iterator
from itertools import product
from typing import Any, Literal, Protocol

from pydantic import Field, model_validator

from hkbench.analysis.metrics import DIRECTIONS
from hkbench.data.augment import ViewPolicy
from hkbench.errors import UsageError, unknown
from hkbench.models.architecture import Architecture
from hkbench.models.build import check
from hkbench.models.counts import Precision, check_precision
from hkbench.search.parameters import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    Strict,
    Value,
    all_points,
)
from hkbench.search.settings import TrialSettings, settings_of
from hkbench.training.optimizers import check_optimizer
from hkbench.training.teacher import TeacherRecipe

STATIC = ("artifact_bytes", "parameters", "macs", "latency_ms")
"""What an architecture costs whatever it learns: bytes of the ONNX file, multiply-accumulates and
milliseconds a picture."""
OBJECTIVES = (*DIRECTIONS, *STATIC)
"""What a trial reports: the metrics of the validation part, and what its architecture costs."""
MOST_LISTED = 64
"""So many architectures at most are exported and timed before the first trial."""
MOST_POINTS = 100_000
"""A space with more points than this counts as one without an end."""


class Limit(Strict):
    """What must hold for a trial to count."""

    at_least: float | None = None
    at_most: float | None = None

    def violation(self, value: float) -> float:
        """Return by how much `value` breaks the limit; 0 or less where it holds."""
        low = self.at_least - value if self.at_least is not None else float("-inf")
        high = value - self.at_most if self.at_most is not None else float("-inf")
        return max(low, high)


class SeedPoint(Strict):
    """A named point that is tried first, with where it comes from.

    With `each` it is several: one for every combination of the listed values, over the same `params`.
    """

    name: str
    source: str
    params: dict[str, Value] = Field(default_factory=dict)
    each: dict[str, list[Value]] = Field(default_factory=dict)

    def points(self) -> Iterator[tuple[str, dict[str, Value]]]:
        """Yield the name and the parameters of each point that it stands for."""
        for values in product(*self.each.values()):
            named = "".join(f", {value}" for value in values)
            yield f"{self.name}{named}", {**self.params, **dict(zip(self.each, values, strict=True))}


class Schedule(Strict):
    """How much a search spends: trials of up to `max_epochs`, poor ones stopped at grace·reductionᵏ."""

    trials: int = Field(default=16, ge=1)
    max_epochs: int = Field(default=6, ge=1)
    grace: int = Field(default=1, ge=1)
    reduction: int = Field(default=3, ge=2)
    budget: str | None = None


class Chooser(Protocol):
    """What proposes values: an `optuna.Trial`, or anything with the same three methods."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a number in [low, high]."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a whole number in [low, high]."""

    def suggest_categorical(self, name: str, choices: list[Value]) -> Any:
        """Return one of the choices."""


class Space(Strict):
    """A validated space. Parameters are asked for in an order that puts conditions after their causes."""

    name: str
    about: str
    parameters: dict[str, Parameter] = Field(min_length=1)
    objectives: dict[str, Literal["maximize", "minimize"]] = Field(min_length=1)
    constraints: dict[str, Limit] = Field(default_factory=dict)
    start_with: list[SeedPoint] = Field(default_factory=list)
    schedule: Schedule = Field(default_factory=Schedule)
    teacher: TeacherRecipe = Field(default_factory=TeacherRecipe)
    more_teachers: list[TeacherRecipe] = Field(default_factory=list)
    augmentation: ViewPolicy = Field(default_factory=ViewPolicy)
    defaults: dict[str, Value] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_known(self) -> "Space":
        searched = [parameter.sets or name for name, parameter in self.parameters.items()]
        for name in (*searched, *self.defaults):
            if name not in TrialSettings.model_fields:
                raise unknown("trial parameter", name, TrialSettings.model_fields)
        for teacher in (self.teacher, *self.more_teachers):
            check(Architecture(model=teacher.model, image_size=teacher.image_size))
            check_optimizer(teacher.optimizer_config)
        for name in (*self.objectives, *self.constraints):
            if name not in OBJECTIVES:
                raise unknown("objective", name, OBJECTIVES)
        for name, parameter in self.parameters.items():
            for cause in parameter.when:
                if cause not in self.parameters:
                    raise UsageError(f"'{name}' depends on '{cause}', which is no parameter of this space.")
        for point in self.start_with:
            for name in (*point.params, *point.each):
                if name not in self.parameters:
                    raise unknown(f"parameter in the seed point '{point.name}':", name, self.parameters)
        self.order()
        return self

    def order(self) -> list[str]:
        """Return the parameters' names, each after those that it depends on.

        Raises:
            UsageError: conditions that depend on each other in a circle.
        """
        found: list[str] = []
        left = dict(self.parameters)
        while left:
            ready = [name for name, parameter in left.items() if set(parameter.when) <= set(found)]
            if not ready:
                raise UsageError(f"The conditions of {', '.join(sorted(left))} depend on each other.")
            found += ready
            left = {name: parameter for name, parameter in left.items() if name not in ready}
        return found

    def choose(self, chooser: Chooser) -> dict[str, Any]:
        """Draw one point: the active parameters with their values."""
        params: dict[str, Any] = {}
        for name in self.order():
            parameter = self.parameters[name]
            if not parameter.active(params):
                continue
            match parameter:
                case FloatParameter(low=low, high=high, step=step, log=log):
                    params[name] = chooser.suggest_float(name, low, high, step=step, log=log)
                case IntParameter(low=low, high=high, step=step, log=log):
                    params[name] = chooser.suggest_int(name, low, high, step=step, log=log)
                case CategoricalParameter(choices=choices):
                    params[name] = chooser.suggest_categorical(name, choices)
        return params

    def points(self) -> list[dict[str, Any]] | None:
        """Return every point of the space; None if they have no end, or are more than `MOST_POINTS`."""
        return all_points({name: self.parameters[name] for name in self.order()}, most=MOST_POINTS)

    def settings(self, params: dict[str, Any]) -> TrialSettings:
        """Return all of a trial's settings: the chosen point over the space's defaults.

        A parameter with `sets` gives its value to the setting of that name, so that one setting can have
        several ranges under several conditions.
        """
        return settings_of(self.chosen(params))

    def chosen(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return what a point sets, by the settings' names, over the space's defaults."""
        return {
            **self.defaults,
            **{self.parameters[name].sets or name: value for name, value in params.items()},
        }

    def image_sizes(self) -> list[int]:
        """Return every picture size that a trial may ask for.

        Raises:
            UsageError: the sizes can't be listed.
        """
        sizes = self._values("image_size")
        if sizes is None:
            raise UsageError("image_size must be a list of choices or int: pictures are decoded beforehand.")
        return sorted(int(size) for size in sizes)

    def precisions(self) -> list[Precision]:
        """Return every precision that a trial's file may have."""
        return [check_precision(str(name)) for name in self._values("precision") or ("fp32",)]

    def may_need_teacher(self) -> bool:
        """Whether any trial may have a loss that reads a teacher."""
        return set(self._values("loss") or ()) != {"hard"}

    def _values(self, setting: str) -> list[Value] | None:
        """Return all values that a setting may have; None if they have no end."""
        found: list[Value] = []
        for parameter in self._parameters_of(setting):
            listed = parameter.values()
            if listed is None:
                return None
            found += listed
        if all(parameter.when for parameter in self._parameters_of(setting)):  # or there is none
            found.append(self.defaults.get(setting, TrialSettings.model_fields[setting].default))
        return list(dict.fromkeys(found))

    def _parameters_of(self, setting: str) -> list[Parameter]:
        return [each for name, each in self.parameters.items() if (each.sets or name) == setting]

    def architectures(self) -> list[Architecture] | None:
        """Return every architecture that the space can propose; None if they are more than `MOST_LISTED`."""
        deciding = {
            name: self.parameters[name]
            for name in self.order()
            if (self.parameters[name].sets or name) in Architecture.model_fields
        }
        points = all_points(deciding, most=4 * MOST_LISTED)
        found = dict.fromkeys(self._architecture(point) for point in points or ())
        return list(found) if points is not None and len(found) <= MOST_LISTED else None

    def _architecture(self, point: dict[str, Any]) -> Architecture:
        fields = self.chosen(point)
        return Architecture.model_validate(
            {name: value for name, value in fields.items() if name in Architecture.model_fields}
        )

    def seed_points(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the name and the parameters of every seed point, with what they leave to a default.

        Raises:
            UsageError: a value out of range, or of a parameter whose conditions don't hold.
        """
        return [
            (name, _followed(self, params, name))
            for seed in self.start_with
            for name, params in seed.points()
        ]

    def completed(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a point in which every active parameter has a value, its first one where none is given."""
        filled: dict[str, Any] = {}
        for name in self.order():
            parameter = self.parameters[name]
            if parameter.active(filled):
                filled[name] = params.get(name, parameter.edges()[0])
        return filled

    def first_settings(self) -> TrialSettings:
        """Return the settings of the point that is tried first, or of one like it."""
        params = [params for _, params in self.seed_points()] or [{}]
        return self.settings(self.completed(params[0]))


def _followed(space: Space, params: dict[str, Value], point: str) -> dict[str, Any]:
    """Return a seed point with what it leaves to a default; what it gives must lie in its range."""
    filled: dict[str, Any] = {}
    for name in space.order():
        parameter = space.parameters[name]
        if not parameter.active(filled):
            if name in params:
                raise UsageError(f"The seed point '{point}' sets '{name}', whose conditions it doesn't meet.")
            continue
        value = params.get(name, parameter.default)
        if value is None:
            continue
        filled[name] = value
        if not parameter.holds(value):
            where = f"value of '{name}' in the seed point '{point}':"
            raise unknown(where, str(value), map(str, parameter.edges()))
    return filled
