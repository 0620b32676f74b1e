"""The parameters of a space: what each may be, and under which conditions it is asked for at all."""

import math
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import Field, field_validator, model_validator

from hkbench.spaces.limits import OfParameter, RealLimit, Strict, WholeLimit, straight

Value = str | int | float | bool

ROUNDING = 1e-9
"""Of a step: sums of steps are not exact."""
MOST_VALUES = 100_000
"""A parameter with more values than this counts as one without an end."""


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


def is_number(value: Value) -> bool:
    """Whether a value is a number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


class _Parameter(Strict):
    when: dict[str, Value | list[Value]] = Field(default_factory=dict)
    """Conditions: another parameter's name, and the value or the values under which this one is asked for."""
    sets: str | None = None
    """The setting of a trial that takes the value; by default the one of the parameter's own name."""
    default: Value | None = None
    """What a seed point has that doesn't name the parameter."""

    @property
    def conditions(self) -> dict[str, list[Value]]:
        """What each cause must be, as a list."""
        return {name: list(each) if isinstance(each, list) else [each] for name, each in self.when.items()}

    @property
    def follows(self) -> frozenset[str]:
        """The parameters that its limits are derived from."""
        return frozenset()

    @property
    def causes(self) -> frozenset[str]:
        """The parameters that have to be known before it."""
        return self.follows | self.when.keys()

    def active(self, params: Mapping[str, Any], *, of: Collection[str] | None = None) -> bool:
        """Whether the conditions hold for what has been chosen so far; with `of`, those on these alone."""
        return self.follows <= params.keys() and all(
            name in params and params[name] in allowed
            for name, allowed in self.conditions.items()
            if of is None or name in of
        )


class _Range(_Parameter):
    low: RealLimit
    """The smallest value, or how it follows from another parameter."""
    high: RealLimit
    """The largest value, or how it follows from another parameter."""
    log: bool = False
    """Whether values are drawn by their logarithm."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if not self.follows and (flaw := self.flaw()):
            raise ValueError(flaw)
        return self

    @property
    def follows(self) -> frozenset[str]:
        """The parameters that its limits are derived from."""
        return frozenset(each.of for each in (self.low, self.high) if isinstance(each, OfParameter))

    def limits(self, params: Mapping[str, Any]) -> tuple[float, float]:
        """Return low and high, for these values of the parameters that they follow."""
        low, high = (
            each.follow(params[each.of]) if isinstance(each, OfParameter) else each
            for each in (self.low, self.high)
        )
        return low, high

    def at(self, params: Mapping[str, Any]) -> Self:
        """Return the parameter with plain limits, for these values of the parameters that they follow."""
        if not self.follows:
            return self
        low, high = self.limits(params)
        return self.model_copy(update={"low": low, "high": high})

    def flaw(self) -> str | None:
        """Return what is wrong with plain limits; None where nothing is."""
        low, high = self.limits({})
        if low > high:
            return f"low is {low:g}, above high, {high:g}"
        if self.log and low <= 0:
            return f"a logarithmic range needs low above 0, found {low:g}"
        return None

    def edges(self) -> list[Value]:
        """Return the values that are tried when the space is checked."""
        return list(self.limits({}))

    def holds(self, value: Value) -> bool:
        """Whether a value lies in the range."""
        low, high = self.limits({})
        return not isinstance(value, str | bool) and low <= value <= high


class FloatParameter(_Range):
    """A real number in [low, high], by its logarithm or in steps where asked for."""

    type: Literal["float"]
    """A real number."""
    step: float | None = Field(default=None, gt=0)
    """The distance of two values; by default there is none."""

    @model_validator(mode="after")
    def _has_one_scale(self) -> Self:
        if self.log and self.step is not None:
            raise ValueError("a range has either steps or log: true")
        return self

    def holds(self, value: Value) -> bool:
        """Whether a value lies in the range, and on one of its steps."""
        if isinstance(value, str) or not super().holds(value):
            return False
        steps = 0.0 if self.step is None else (value - self.limits({})[0]) / self.step
        return abs(steps - round(steps)) < ROUNDING

    def _steps(self, step: float) -> int:
        low, high = self.limits({})
        return math.floor((high - low) / step + ROUNDING)

    def values(self) -> list[Value] | None:
        """Return every step from low to high; None without steps, or where they are too many."""
        if self.step is None or self._steps(self.step) >= MOST_VALUES:
            return None
        low = self.limits({})[0]
        return [straight(number, self.step, low) for number in range(self._steps(self.step) + 1)]

    def choose(self, chooser: Chooser, name: str) -> float:
        """Draw a value."""
        low, high = self.limits({})
        if self.step is None:
            return chooser.suggest_float(name, low, high, log=self.log)
        last = straight(self._steps(self.step), self.step, low)
        chosen = chooser.suggest_float(name, low, last, step=self.step)
        return straight(round((chosen - low) / self.step), self.step, low)


class IntParameter(_Range):
    """A whole number in [low, high]."""

    type: Literal["int"]
    """A whole number."""
    low: WholeLimit
    """The smallest value, or how it follows from another parameter: rounded up."""
    high: WholeLimit
    """The largest value, or how it follows from another parameter: rounded down."""
    step: int = Field(default=1, ge=1)
    """The distance of two values."""

    @model_validator(mode="after")
    def _has_one_scale(self) -> Self:
        if self.log and self.step != 1:
            raise ValueError("a range has either steps or log: true")
        return self

    def limits(self, params: Mapping[str, Any]) -> tuple[int, int]:
        """Return low and high, for these values of the parameters that they follow."""
        low, high = super().limits(params)
        return math.ceil(low), math.floor(high)

    def _range(self) -> range:
        low, high = self.limits({})
        return range(low, high + 1, self.step)

    def holds(self, value: Value) -> bool:
        """Whether a value is one of the whole numbers."""
        return not isinstance(value, str | bool) and value in self._range()

    def values(self) -> list[Value] | None:
        """Return every whole number that may be chosen; None where they are too many."""
        return list(self._range()) if len(self._range()) <= MOST_VALUES else None

    def choose(self, chooser: Chooser, name: str) -> int:
        """Draw a value."""
        return chooser.suggest_int(name, self._range()[0], self._range()[-1], step=self.step, log=self.log)


class CategoricalParameter(_Parameter):
    """One of the choices, without order."""

    type: Literal["categorical"]
    """One of several values."""
    choices: list[Value] = Field(min_length=1)
    """The values."""

    @field_validator("choices")
    @classmethod
    def _differ(cls, choices: list[Value]) -> list[Value]:
        for place, choice in enumerate(choices):
            if choice in choices[:place]:
                raise ValueError(f"the choice {choice!r} is there twice")
        return choices

    def at(self, params: Mapping[str, Any]) -> Self:  # noqa: ARG002, as a range has it
        """Return the parameter itself: choices follow nothing."""
        return self

    def flaw(self) -> str | None:
        """Return None: there is always a choice."""
        return None

    def edges(self) -> list[Value]:
        """Return the values that are tried when the space is checked: all."""
        return self.choices

    def holds(self, value: Value) -> bool:
        """Whether a value is one of the choices."""
        return value in self.choices

    def values(self) -> list[Value] | None:
        """Return the choices."""
        return self.choices

    def choose(self, chooser: Chooser, name: str) -> Any:
        """Draw a choice."""
        return chooser.suggest_categorical(name, self.choices)


Parameter = Annotated[FloatParameter | IntParameter | CategoricalParameter, Field(discriminator="type")]


def all_points(parameters: Mapping[str, Parameter], *, most: int) -> list[dict[str, Any]] | None:
    """Return every combination of values that conditions allow; None if there are more than `most` or no end.

    `parameters` come after those that they depend on, and hold those that their limits follow. What a
    parameter depends on besides these may hold or not, so there it is set in some points and left out of
    others.
    """
    points: list[dict[str, Any]] = [{}]
    for name, parameter in parameters.items():
        is_known = parameter.when.keys() <= parameters.keys()
        wider: list[dict[str, Any]] = []
        for point in points:
            may_be = parameter.active(point, of=parameters)
            values = parameter.at(point).values() if may_be else []
            if values is None or len(wider) + len(values) > most:
                return None
            wider += ({**point, name: value} for value in values)
            if not (may_be and is_known):
                wider.append(point)
        if len(wider) > most:
            return None
        points = wider
    return points
