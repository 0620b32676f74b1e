"""Spaces: parameters, conditions, objectives, constraints, seed points and a schedule."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from hkbench.analysis.metrics import DIRECTIONS
from hkbench.data.augment import ViewPolicy
from hkbench.errors import UsageError, unknown
from hkbench.models.architecture import Architecture
from hkbench.models.build import check
from hkbench.models.counts import Precision, check_precision
from hkbench.spaces.conditions import check_parameters, in_order, widest, with_followed
from hkbench.spaces.limits import Limit as Limit
from hkbench.spaces.limits import Strict
from hkbench.spaces.lines import SpaceError, placed
from hkbench.spaces.parameters import MOST_VALUES, Chooser, Parameter, Value, all_points
from hkbench.spaces.seeds import SeedPoint, filled_in
from hkbench.spaces.settings import TrialSettings, settings_of
from hkbench.training.optimizers import check_optimizer
from hkbench.training.teacher import TeacherRecipe

STATIC = ("artifact_bytes", "parameters", "macs", "latency_ms", "energy_mj")
"""What an architecture costs whatever it learns: bytes of the ONNX file, multiply-accumulates, milliseconds
and millijoules a picture."""
OBJECTIVES = (*DIRECTIONS, *STATIC)
"""What a trial reports: the metrics of the validation part, and what its architecture costs."""
MOST_LISTED = 64
"""So many architectures at most are exported and timed before the first trial."""
MOST_POINTS = MOST_VALUES
"""A space with more points than this counts as one without an end."""


class Schedule(Strict):
    """How much a search spends: trials of up to `max_epochs`, poor ones stopped at grace·reductionᵏ.

    Rungs are counted in `unit`, of what a trial has spent. With several `brackets` some trials have their
    first rung later, at grace·reduction. `confidence` is that of the bound on what may become of a trial.
    """

    trials: int = Field(default=16, ge=1)
    max_epochs: int = Field(default=6, ge=1)
    grace: int = Field(default=1, ge=1)
    reduction: int = Field(default=3, ge=2)
    unit: Literal["epochs", "seconds", "gpu_seconds"] = "epochs"
    brackets: int = Field(default=1, ge=1, le=8)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    budget: str | None = None


class Space(Strict):
    """A validated space. Parameters are asked for in an order that puts conditions after their causes."""

    name: str
    """What the space is called, and by default the run."""
    about: str
    """One line on what the space asks."""
    parameters: dict[str, Parameter] = Field(min_length=1)
    """What is searched: settings of a trial, or parameters that give one of these its value by `sets`."""
    objectives: dict[str, Literal["maximize", "minimize"]] = Field(min_length=1)
    """What is made large or small."""
    constraints: dict[str, Limit] = Field(default_factory=dict)
    """What must hold for a trial to count."""
    start_with: list[SeedPoint] = Field(default_factory=list)
    """Points that are tried first."""
    schedule: Schedule = Field(default_factory=Schedule)
    """How much the search spends."""
    teacher: TeacherRecipe = Field(default_factory=TeacherRecipe)
    """How the teacher is made."""
    more_teachers: list[TeacherRecipe] = Field(default_factory=list)
    """Teachers whose logits are averaged with the teacher's."""
    augmentation: ViewPolicy = Field(default_factory=ViewPolicy)
    """How far the views that networks are trained on stray from the pictures."""
    defaults: dict[str, Value] = Field(default_factory=dict)
    """Settings that are not searched."""

    @model_validator(mode="after")
    def _names_are_known(self) -> "Space":
        self._check_settings()
        self._check_teachers()
        for group, names in (("objectives", self.objectives), ("constraints", self.constraints)):
            for name in names:
                if name not in OBJECTIVES:
                    raise SpaceError(unknown("objective", name, OBJECTIVES), group, name)
        check_parameters(self.parameters)
        for number, point in enumerate(self.start_with):
            for name in (*point.params, *point.each):
                if name not in self.parameters:
                    kind = f"parameter in the seed point '{point.name}':"
                    found = unknown(kind, name, self.parameters)
                    raise SpaceError(found, "start_with", number, *point.place(name))
        for name in sorted(self.needs_teacher_values()):
            if not self.may_need_teacher():
                said = f"The limit of '{name}' follows the teacher, and the space has no loss that reads one."
                raise SpaceError(said, "constraints", name)
        return self

    def _check_settings(self) -> None:
        for name, parameter in self.parameters.items():
            setting, place = (parameter.sets, ["sets"]) if parameter.sets else (name, [])
            if setting not in TrialSettings.model_fields:
                found = unknown("trial parameter", setting, TrialSettings.model_fields)
                raise SpaceError(found, "parameters", name, *place)
        for name in self.defaults:
            if name not in TrialSettings.model_fields:
                raise SpaceError(
                    unknown("trial parameter", name, TrialSettings.model_fields), "defaults", name
                )

    def _check_teachers(self) -> None:
        more = [(("more_teachers", number), recipe) for number, recipe in enumerate(self.more_teachers)]
        for place, recipe in ((("teacher",), self.teacher), *more):
            with placed(*place, among=recipe.model_dump()):
                check(Architecture(model=recipe.model, image_size=recipe.image_size))
                check_optimizer(recipe.optimizer_config)

    def order(self) -> list[str]:
        """Return the parameters' names, each after those that it depends on."""
        return in_order(self.parameters)

    def widest(self, name: str) -> tuple[float, float]:
        """Return the smallest and the largest number that a parameter may be, whatever its limits follow."""
        return widest(self.parameters, name)

    def derived(self) -> frozenset[str]:
        """Return the parameters whose limits follow another's value."""
        return frozenset(name for name, parameter in self.parameters.items() if parameter.follows)

    def needs_teacher_values(self) -> frozenset[str]:
        """Return the objectives whose limits follow what the teacher reaches or costs."""
        return frozenset(name for name, limit in self.constraints.items() if limit.follows_teacher)

    def resolved(self, teacher: Mapping[str, float]) -> "Space":
        """Return the space with plain limits, where they follow what its teacher reaches or costs.

        Raises:
            UsageError: a value is missing, or with it no trial could keep the limit.
        """
        limits = dict(self.constraints)
        for name in sorted(self.needs_teacher_values()):
            if name not in teacher:
                raise SpaceError(f"The limit of '{name}' follows the teacher, whose own isn't known.")
            try:
                limits[name] = limits[name].resolved(teacher[name])
            except ValueError as error:
                said = str(error)
                raise SpaceError(
                    f"The limit of '{name}' for a teacher with {teacher[name]:g}: {said}"
                ) from error
        return self.model_copy(update={"constraints": limits})

    def choose(self, chooser: Chooser) -> dict[str, Any]:
        """Draw one point: the active parameters with their values.

        Raises:
            UsageError: a derived range is empty for what has been drawn; no check of the space had met it.
        """
        params: dict[str, Any] = {}
        for name in self.order():
            parameter = self.parameters[name]
            if not parameter.active(params):
                continue
            now = parameter.at(params)
            if flaw := now.flaw():
                raise SpaceError(f"'{name}' has no values at {params}: {flaw}.", "parameters", name)
            params[name] = now.choose(chooser, name)
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
        names = self._names_of(setting)
        for name in names:
            points = all_points(with_followed(self.parameters, [name]), most=MOST_POINTS)
            if points is None:
                return None
            found += [point[name] for point in points if name in point]
        if all(self.parameters[name].when for name in names):  # or there is none
            found.append(self.defaults.get(setting, TrialSettings.model_fields[setting].default))
        return list(dict.fromkeys(found))

    def _names_of(self, *settings: str) -> list[str]:
        return [name for name, each in self.parameters.items() if (each.sets or name) in settings]

    def architectures(self) -> list[Architecture] | None:
        """Return every architecture that the space can propose; None if they are more than `MOST_LISTED`."""
        deciding = with_followed(self.parameters, self._names_of(*Architecture.model_fields))
        points = all_points(deciding, most=4 * MOST_LISTED)
        found = dict.fromkeys(self.architecture(point) for point in points or ())
        return list(found) if points is not None and len(found) <= MOST_LISTED else None

    def architecture(self, point: dict[str, Any]) -> Architecture:
        """Return the structure that a point stands for; whether it can be built isn't checked."""
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
            point
            for number, seed in enumerate(self.start_with)
            for point in filled_in(self.parameters, seed, number)
        ]

    def completed(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a point in which every active parameter has a value, its first one where none is given."""
        filled: dict[str, Any] = {}
        for name in self.order():
            parameter = self.parameters[name]
            if parameter.active(filled):
                filled[name] = params.get(name, parameter.at(filled).edges()[0])
        return filled

    def first_settings(self) -> TrialSettings:
        """Return the settings of the point that is tried first, or of one like it."""
        params = [params for _, params in self.seed_points()] or [{}]
        return self.settings(self.completed(params[0]))
