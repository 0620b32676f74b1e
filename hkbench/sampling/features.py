"""Points of a space as rows of numbers, for a model to learn from.

A number is scaled to [0, 1] by its range, in logarithms where the space says so; a categorical parameter
whose choices are all numbers is taken by their order, any other by one column for each choice. A parameter
that a point doesn't have lies in the middle: which ones it has is told by the parameters that they depend
on.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hkbench.spaces.parameters import CategoricalParameter, Parameter, Value
from hkbench.spaces.space import Space

ABSENT = 0.5


class Features:
    """How the points of one space become rows; `groups` says which columns belong to one parameter."""

    def __init__(self, space: Space) -> None:
        self._columns = [_Column(name, space.parameters[name], space) for name in space.order()]
        widths = [column.width for column in self._columns]
        self.groups: NDArray[np.int64] = np.repeat(np.arange(len(widths)), widths)

    def knows(self, point: Mapping[str, Any]) -> bool:
        """Whether a point can become a row: one of a wider space may have a choice that this one lacks."""
        return all(column.knows(point) for column in self._columns)

    def rows(self, points: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Return float (points, columns) in [0, 1]."""
        if not points:
            return np.zeros((0, len(self.groups)))
        return np.array([[x for column in self._columns for x in column.of(point)] for point in points])


class _Column:
    """One parameter's columns."""

    def __init__(self, name: str, parameter: Parameter, space: Space) -> None:
        self._name = name
        self._choices: list[Value] | None = None
        if isinstance(parameter, CategoricalParameter):
            self._choices = parameter.choices
            if all(
                isinstance(each, int | float) and not isinstance(each, bool) for each in parameter.choices
            ):
                self._choices = sorted(parameter.choices, key=float)
                self.width = 1
            else:
                self.width = len(parameter.choices)
            return
        self.width = 1
        self._log = parameter.log
        low, high = space.widest(name)
        self._low, self._high = self._scaled(low), self._scaled(high)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self._log else float(value)

    def knows(self, point: Mapping[str, Any]) -> bool:
        return self._choices is None or self._name not in point or point[self._name] in self._choices

    def of(self, point: Mapping[str, Any]) -> list[float]:
        if self._name not in point:
            return [ABSENT if self.width == 1 else 1 / self.width] * self.width
        value = point[self._name]
        if self._choices is None:
            span = self._high - self._low
            return [(self._scaled(value) - self._low) / span if span else ABSENT]
        place = self._choices.index(value)
        if self.width == 1:
            return [place / (len(self._choices) - 1) if len(self._choices) > 1 else ABSENT]
        return [float(place == column) for column in range(self.width)]
