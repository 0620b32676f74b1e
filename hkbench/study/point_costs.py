"""What a point of a space costs, as the sampler asks for it: of many points, which stand for few networks."""

from collections.abc import Mapping
from typing import Any

from hkbench.errors import HkbenchError
from hkbench.models.architecture import Architecture
from hkbench.spaces.space import Space
from hkbench.study.costs import CostOf, broken_limits
from hkbench.study.points import point_key


class PointCosts:
    """Looks up what an architecture costs, once for each that points stand for."""

    def __init__(self, space: Space, costs: CostOf) -> None:
        self._space = space
        self._costs = costs
        self._deciding = [
            name
            for name, parameter in space.parameters.items()
            if (parameter.sets or name) in {*Architecture.model_fields, "precision"}
        ]
        self._known: dict[str, Mapping[str, float] | None] = {}

    def __call__(self, point: Mapping[str, Any]) -> Mapping[str, float] | None:
        """Return a point's known costs by objective; None where it breaks a limit or can't be built."""
        key = point_key({name: point[name] for name in self._deciding if name in point})
        if key not in self._known:
            self._known[key] = self._looked_up(dict(point))
        return self._known[key]

    def _looked_up(self, point: dict[str, Any]) -> Mapping[str, float] | None:
        try:
            precision = self._space.chosen(point).get("precision", "fp32")
            cost = self._costs(self._space.architecture(point), str(precision))
        except HkbenchError:
            return None
        return None if broken_limits(cost, self._space.constraints) else cost.objectives()
