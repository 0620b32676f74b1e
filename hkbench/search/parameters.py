"""The parameters of a space: what each may be, and under which conditions it is asked for at all."""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Value = str | int | float | bool

ROUNDING = 1e-9
"""Of a step: sums of steps are not exact."""


class Strict(BaseModel):
    """What a space file holds: frozen, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Parameter(Strict):
    when: dict[str, Value | list[Value]] = Field(default_factory=dict)
    sets: str | None = None
    default: Value | None = None

    def active(self, params: dict[str, Any], *, of: Collection[str] | None = None) -> bool:
        """Whether the conditions hold for what has been chosen so far; with `of`, those on these alone."""
        return all(
            name in params and params[name] in (allowed if isinstance(allowed, list) else [allowed])
            for name, allowed in self.when.items()
            if of is None or name in of
        )


class _Range(_Parameter):
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low is {self.low:g}, above high, {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range needs low above 0, found {self.low:g}")
        return self

    def edges(self) -> list[Value]:
        """Return the values that are tried when the space is checked."""
        return [self.low, self.high]

    def holds(self, value: Value) -> bool:
        """Whether a value lies in the range."""
        return not isinstance(value, str) and self.low <= value <= self.high

    def values(self) -> list[Value] | None:
        """Return every value that may be chosen; None where they have no end."""
        return None


class FloatParameter(_Range):
    """A real number in [low, high], by its logarithm or in steps where asked for."""

    type: Literal["float"]
    step: float | None = Field(default=None, gt=0)

    def values(self) -> list[Value] | None:
        """Return every step from low to high; None without steps."""
        if self.step is None:
            return None
        count = math.floor((self.high - self.low) / self.step + ROUNDING) + 1
        return [float(f"{self.low + number * self.step:.12g}") for number in range(count)]


class IntParameter(_Range):
    """A whole number in [low, high]."""

    type: Literal["int"]
    low: int
    high: int
    step: int = Field(default=1, ge=1)

    def values(self) -> list[Value] | None:
        """Return every whole number that may be chosen."""
        return list(range(self.low, self.high + 1, self.step))


class CategoricalParameter(_Parameter):
    """One of the choices, without order."""

    type: Literal["categorical"]
    choices: list[Value] = Field(min_length=1)

    def edges(self) -> list[Value]:
        """Return the values that are tried when the space is checked: all."""
        return self.choices

    def holds(self, value: Value) -> bool:
        """Whether a value is one of the choices."""
        return value in self.choices

    def values(self) -> list[Value] | None:
        """Return the choices."""
        return self.choices


Parameter = Annotated[FloatParameter | IntParameter | CategoricalParameter, Field(discriminator="type")]


def all_points(parameters: Mapping[str, Parameter], *, most: int) -> list[dict[str, Any]] | None:
    """Return every combination of values that conditions allow; None if there are more than `most` or no end.

    `parameters` come after those that they depend on. What a parameter depends on besides these may hold or
    not, so there it is set in some points and left out of others.
    """
    points: list[dict[str, Any]] = [{}]
    for name, parameter in parameters.items():
        values = parameter.values()
        if values is None:
            return None
        points = [wider for point in points for wider in _widened(point, name, values, parameters)]
        if len(points) > most:
            return None
    return points


def _widened(
    point: dict[str, Any], name: str, values: list[Value], parameters: Mapping[str, Parameter]
) -> Iterator[dict[str, Any]]:
    parameter = parameters[name]
    may_be = parameter.active(point, of=parameters)
    if may_be:
        yield from ({**point, name: value} for value in values)
    if not may_be or not parameter.when.keys() <= parameters.keys():
        yield point
