"""Spaces: YAML files of parameters, conditions, objectives, constraints, seed points and a schedule."""

from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any, Literal, Protocol

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from hkbench.data.augment import ViewPolicy
from hkbench.errors import UsageError, unknown
from hkbench.models.registry import MODELS
from hkbench.search.parameters import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    Strict,
    Value,
)
from hkbench.search.settings import Architecture, TrialSettings, settings_of
from hkbench.training.teacher import TeacherRecipe

OBJECTIVES = ("accuracy", "artifact_bytes", "latency_ms")
"""What a trial reports: a share of the validation part, bytes of the ONNX file, milliseconds a picture."""


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
    """A named point that is tried first, with where it comes from."""

    name: str
    source: str
    params: dict[str, Value]


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
            if teacher.model not in MODELS:
                raise unknown("model", teacher.model, MODELS)
        for name in (*self.objectives, *self.constraints):
            if name not in OBJECTIVES:
                raise unknown("objective", name, OBJECTIVES)
        for name, parameter in self.parameters.items():
            for cause in parameter.when:
                if cause not in self.parameters:
                    raise UsageError(f"'{name}' depends on '{cause}', which is no parameter of this space.")
        for point in self.start_with:
            for name in point.params:
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

    def settings(self, params: dict[str, Any]) -> TrialSettings:
        """Return all of a trial's settings: the chosen point over the space's defaults.

        A parameter with `sets` gives its value to the setting of that name, so that one setting can have
        several ranges under several conditions.
        """
        chosen = {self.parameters[name].sets or name: value for name, value in params.items()}
        return settings_of({**self.defaults, **chosen})

    def architectures(self) -> list[Architecture]:
        """Return every (model, image size, frozen body) that the space can propose."""
        listed = [self._values(name) for name in ("model", "image_size", "frozen_body")]
        return [(str(model), int(size), bool(frozen)) for model, size, frozen in product(*listed)]

    def _values(self, setting: str) -> list[Value]:
        """Return all values of a setting that decides what a file costs."""
        found: list[Value] = []
        for name, parameter in self.parameters.items():
            if (parameter.sets or name) == setting:
                found += parameter.values()
        fallback = self.defaults.get(setting, TrialSettings.model_fields[setting].default)
        return list(dict.fromkeys(found)) or [fallback]

    def edge_settings(self) -> list[TrialSettings]:
        """Return the settings of the seed points, and of points that reach every choice and end of a range.

        Raises:
            UsageError: a value that no trial could have.
        """
        seeds = [self.settings(_followed(self, point.params, point.name)) for point in self.start_with]
        return seeds + [
            self.settings(_reaching(self, name, value))
            for name, parameter in self.parameters.items()
            for value in parameter.edges()
        ]


def _reaching(space: Space, wanted: str, value: Value) -> dict[str, Any]:
    """Return a point in which the parameter `wanted` is active and has `value`."""
    forced: dict[str, Value] = {wanted: value}
    causes = [wanted]
    while causes:
        for cause, allowed in space.parameters[causes.pop()].when.items():
            forced[cause] = allowed[0] if isinstance(allowed, list) else allowed
            causes.append(cause)
    params: dict[str, Any] = {}
    for name in space.order():
        parameter = space.parameters[name]
        if parameter.active(params):
            params[name] = forced.get(name, parameter.edges()[0])
    return params


def _followed(space: Space, params: dict[str, Value], point: str) -> dict[str, Any]:
    """Return a seed point with its missing parameters filled in; what it gives must lie in its range."""
    filled: dict[str, Any] = {}
    for name in space.order():
        parameter = space.parameters[name]
        if not parameter.active(filled):
            if name in params:
                raise UsageError(f"The seed point '{point}' sets '{name}', whose conditions it doesn't meet.")
            continue
        filled[name] = params.get(name, parameter.edges()[0])
        if not parameter.holds(filled[name]):
            where = f"value of '{name}' in the seed point '{point}':"
            raise unknown(where, str(filled[name]), map(str, parameter.edges()))
    return filled


def shipped_spaces() -> dict[str, Path]:
    """Return the spaces that come with hkbench, by name."""
    packed = Path(str(resources.files("hkbench"))) / "_spaces"
    folder = packed if packed.is_dir() else Path(str(resources.files("hkbench"))).parent / "search_spaces"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def load_space(name_or_path: str, overrides: dict[str, str] | None = None) -> Space:
    """Read a shipped space by name or any YAML file by path; `overrides` are dotted keys with YAML values.

    Raises:
        UsageError: no such space, YAML that doesn't parse, an unknown key or a value out of range.
    """
    shipped = shipped_spaces()
    path = Path(name_or_path)
    if name_or_path in shipped:
        path = shipped[name_or_path]
    elif not path.is_file():
        raise unknown("space", name_or_path, shipped)
    found = _yaml(path.read_bytes(), str(path))
    if not isinstance(found, dict):
        raise UsageError(f"{path} must hold keys such as 'parameters' and 'objectives'; found {type(found)}.")
    for key, value in (overrides or {}).items():
        _override(found, key, value)
    return _validated(found, path)


def _override(found: dict[str, Any], key: str, value: str) -> None:
    *parents, last = key.split(".")
    place = found
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise UsageError(f"--set {key}: '{parent}' is a value, not a group of keys.")
    place[last] = _yaml(value.encode(), f"--set {key}")


def _yaml(content: bytes, where: str) -> Any:
    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{where} is no YAML that can be read: {' '.join(str(error).split())}") from error


def _validated(found: dict[str, Any], path: Path) -> Space:
    try:
        space = Space.model_validate(found)
    except ValidationError as error:
        raise UsageError(f"{path}: {_first_problem(error)}") from error
    space.edge_settings()
    return space


def _first_problem(error: ValidationError) -> str:
    """Say in one line what is wrong, with the nearest known key where a key is unknown."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        groups: dict[str, type[BaseModel]] = {
            "parameters": FloatParameter,
            "schedule": Schedule,
            "constraints": Limit,
            "start_with": SeedPoint,
            "teacher": TeacherRecipe,
            "augmentation": ViewPolicy,
        }
        model = groups.get(str(problem["loc"][0]), Space) if len(problem["loc"]) > 1 else Space
        fields = {*model.model_fields, *(["choices"] if model is FloatParameter else [])}
        return f"at '{where}': {unknown('key', str(problem['loc'][-1]), fields)}"
    return f"at '{where}': {problem['msg']}"
