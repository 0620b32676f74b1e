"""Seed points: named points of a space that are tried first."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from pydantic import Field

from hkbench.errors import unknown
from hkbench.spaces.conditions import in_order
from hkbench.spaces.limits import Strict
from hkbench.spaces.lines import Place, SpaceError
from hkbench.spaces.parameters import Parameter, Value


class SeedPoint(Strict):
    """A named point that is tried first, with where it comes from.

    With `each` it is several: one for every combination of the listed values, over the same `params`.
    """

    name: str
    """What reports call it."""
    source: str
    """Where it comes from."""
    params: dict[str, Value] = Field(default_factory=dict)
    """Parameters and their values; what is left out has its `default`, or is left to the search."""
    each: dict[str, list[Value]] = Field(default_factory=dict)
    """Parameters with several values: the point stands for every combination."""

    def points(self) -> Iterator[tuple[str, dict[str, Value]]]:
        """Yield the name and the parameters of each point that it stands for."""
        for values in product(*self.each.values()):
            named = "".join(f", {value}" for value in values)
            yield f"{self.name}{named}", {**self.params, **dict(zip(self.each, values, strict=True))}

    def place(self, parameter: str) -> Place:
        """Return where in the point a parameter is set."""
        return ("each" if parameter in self.each else "params"), parameter


def filled_in(
    parameters: Mapping[str, Parameter], seed: SeedPoint, number: int
) -> list[tuple[str, dict[str, Any]]]:
    """Return the points that a seed stands for, each with what it leaves to a default.

    Raises:
        SpaceError: a value out of range, or of a parameter whose conditions don't hold.
    """
    order = in_order(parameters)
    place = ("start_with", number)
    return [(name, _filled(parameters, order, seed, params, place)) for name, params in seed.points()]


def _filled(
    parameters: Mapping[str, Parameter],
    order: list[str],
    seed: SeedPoint,
    params: dict[str, Value],
    place: Place,
) -> dict[str, Any]:
    filled: dict[str, Any] = {}
    for name in order:
        parameter, where = parameters[name], (*place, *seed.place(name))
        value = params.get(name)
        if not parameter.active(filled):
            if value is None:
                continue
            missing = sorted(parameter.follows - filled.keys())
            said = (
                f"whose range follows '{missing[0]}': set that too"
                if missing
                else "whose conditions it doesn't meet"
            )
            raise SpaceError(f"The seed point '{seed.name}' sets '{name}', {said}.", *where)
        value = parameter.default if value is None else value
        if value is None:
            continue
        now = parameter.at(filled)
        if not now.holds(value):
            kind = f"value of '{name}' in the seed point '{seed.name}':"
            raise SpaceError(unknown(kind, str(value), map(str, now.edges())), *where)
        filled[name] = value
    return filled
