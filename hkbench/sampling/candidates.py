"""Which untried points a sampler looks at: all, or a sample of those that are many, with neighbours of the
best.
"""

import math
from collections.abc import Collection
from typing import Any

import numpy as np

from hkbench.spaces.parameters import Value
from hkbench.spaces.space import Space
from hkbench.study.points import point_key

MOST = 512
NEIGHBOURS = 32
"""Of each of the best points, where a space can't be listed."""
KEPT = 0.7
"""The chance that a neighbour has the same value of a parameter."""
STEP = 0.15
"""How far a number of a neighbour lies off, in shares of its range: the deviation."""


class Candidates:
    """The untried points of a space: of one that ends up to `MOST`, else draws and neighbours of the best."""

    def __init__(self, space: Space) -> None:
        self._space = space
        points = space.points()
        self._listed = None if points is None else {point_key(point): point for point in points}

    def untried(
        self, leaders: list[dict[str, Any]], tried: Collection[str], rng: np.random.Generator
    ) -> list[dict[str, Any]]:
        """Return points whose keys aren't among those `tried`."""
        if self._listed is not None:
            left = [key for key in self._listed if key not in tried]
            if len(left) > MOST:
                left = [left[at] for at in sorted(rng.choice(len(left), MOST, replace=False))]
            return [self._listed[key] for key in left]
        choose = self._space.choose
        drawn = [choose(_Near({}, rng)) for _ in range(MOST)]
        near = [choose(_Near(leader, rng)) for leader in leaders for _ in range(NEIGHBOURS)]
        found = {point_key(point): point for point in (*drawn, *near)}
        return [point for key, point in found.items() if key not in tried]


class _Near:
    """Chooses values near those of a point, and any where the point has none."""

    def __init__(self, point: dict[str, Any], rng: np.random.Generator) -> None:
        self._point = point
        self._rng = rng

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a number in [low, high]."""
        if self._keeps(name, low, high):
            return float(self._point[name])
        start, end = (math.log(low), math.log(high)) if log else (low, high)
        if self._has(name, low, high):
            at = math.log(self._point[name]) if log else float(self._point[name])
            drawn = float(np.clip(self._rng.normal(at, STEP * (end - start)), start, end))
        else:
            drawn = float(self._rng.uniform(start, end))
        value = math.exp(drawn) if log else drawn
        if step is not None:
            value = low + round((value - low) / step) * step
            value -= step * (value > high + step / 1e6)
        return float(min(max(value, low), high))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a whole number in [low, high]."""
        value = self.suggest_float(name, low, high, log=log)
        return int(min(low + round((value - low) / step) * step, low + (high - low) // step * step))

    def suggest_categorical(self, name: str, choices: list[Value]) -> Any:
        """Return one of the choices."""
        if self._point.get(name) in choices and self._rng.random() < KEPT:
            return self._point[name]
        return choices[int(self._rng.integers(len(choices)))]

    def _has(self, name: str, low: float, high: float) -> bool:
        return name in self._point and low <= self._point[name] <= high

    def _keeps(self, name: str, low: float, high: float) -> bool:
        return self._has(name, low, high) and self._rng.random() < KEPT
