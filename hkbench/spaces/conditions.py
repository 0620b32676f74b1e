"""Whether the conditions and the derived limits of a space's parameters can hold."""

from collections.abc import Iterator, Mapping
from itertools import islice, product
from typing import Any

from hkbench.errors import unknown
from hkbench.spaces.lines import SpaceError
from hkbench.spaces.parameters import CategoricalParameter, Parameter, Value, is_number

MOST_TRIED = 128
"""Of a number that limits follow so many values are tried, else the ends of its range alone."""
MOST_ASSIGNMENTS = 20_000
"""So many combinations of what a parameter depends on are tried."""

Parameters = Mapping[str, Parameter]


def in_order(parameters: Parameters) -> list[str]:
    """Return the parameters' names, each after those that it depends on.

    Raises:
        SpaceError: conditions or limits that depend on each other in a circle.
    """
    found: list[str] = []
    left = dict(parameters)
    while left:
        ready = [name for name, parameter in left.items() if parameter.causes <= set(found)]
        if not ready:
            said = f"The conditions or limits of {', '.join(sorted(left))} depend on each other."
            raise SpaceError(said, "parameters", next(iter(left)))
        found += ready
        left = {name: parameter for name, parameter in left.items() if name not in ready}
    return found


def with_followed(parameters: Parameters, names: list[str]) -> dict[str, Parameter]:
    """Return the named parameters and all that their limits follow, in order."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += parameters[name].follows
    return {name: parameters[name] for name in in_order(parameters) if name in found}


def required(parameters: Parameters, name: str) -> dict[str, list[Value]]:
    """Return what others must be for a parameter to be asked for: its conditions and those of its causes."""
    found: dict[str, list[Value]] = {}
    for cause, allowed in parameters[name].conditions.items():
        for each, values in (*required(parameters, cause).items(), (cause, allowed)):
            found[each] = [value for value in found.get(each, values) if value in values]
    return found


def assignments(parameters: Parameters, name: str) -> Iterator[dict[str, Any]]:
    """Yield values of all that a parameter depends on, under which it is asked for.

    Of numbers that limits follow every value is tried where they are few, else both ends: a derived limit is
    a straight line, so it is furthest out at one of these.
    """
    order = [each for each in in_order(parameters) if each in _ancestors(parameters, name)]
    return islice(_assigned(parameters, order, required(parameters, name), {}), MOST_ASSIGNMENTS)


def _ancestors(parameters: Parameters, name: str) -> set[str]:
    found: set[str] = set()
    left = [name]
    while left:
        causes = parameters[left.pop()].causes - found
        found |= causes
        left += causes
    return found


def _assigned(
    parameters: Parameters, order: list[str], needed: Mapping[str, list[Value]], point: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    if not order:
        yield point
        return
    name, *rest = order
    parameter = parameters[name].at(point)
    if parameter.flaw() is not None:
        return
    tried = _tried(parameter)
    for value in tried if name not in needed else filter(parameter.holds, needed[name]):
        yield from _assigned(parameters, rest, needed, {**point, name: value})


def _tried(parameter: Parameter) -> list[Value]:
    values = parameter.values()
    return values if values is not None and len(values) <= MOST_TRIED else parameter.edges()


def _is_tried_whole(parameter: Parameter) -> bool:
    values = None if parameter.follows else parameter.values()
    return values is not None and len(values) <= MOST_TRIED


def extremes(parameters: Parameters, name: str) -> list[dict[str, Any]]:
    """Return assignments at which the limits of a parameter are furthest out; one where they are plain."""
    found: dict[tuple[float, float], dict[str, Any]] = {}
    parameter = parameters[name]
    for point in assignments(parameters, name):
        if isinstance(parameter, CategoricalParameter) or not parameter.follows:
            return [point]
        found.setdefault(parameter.limits(point), point)
    corners = [end(found, key=lambda limits: limits[side]) for side in (0, 1) for end in (min, max) if found]
    return [found[limits] for limits in dict.fromkeys(corners)]


def widest(parameters: Parameters, name: str) -> tuple[float, float]:
    """Return the smallest and the largest number that a parameter may be, whatever it follows."""
    parameter = parameters[name]
    if isinstance(parameter, CategoricalParameter):
        numbers = [float(choice) for choice in parameter.choices]
        return min(numbers), max(numbers)
    ends = {cause: widest(parameters, cause) for cause in parameter.follows}
    limits = [parameter.limits(dict(zip(ends, values, strict=True))) for values in product(*ends.values())]
    return min(low for low, _ in limits), max(high for _, high in limits)


def check_parameters(parameters: Parameters) -> None:
    """Refuse causes that aren't there, conditions that can never hold and ranges that are empty.

    Raises:
        SpaceError: says which, and where.
    """
    for name in parameters:
        _check_causes(parameters, name)
    for name in in_order(parameters):
        _check_conditions(parameters, name)
        _check_followed_are_there(parameters, name)
        _check_can_be(parameters, name)
        _check_ranges(parameters, name)


def _check_causes(parameters: Parameters, name: str) -> None:
    parameter = parameters[name]
    for cause in parameter.when:
        if cause not in parameters:
            said = unknown(f"parameter for '{name}' to depend on:", cause, parameters)
            raise SpaceError(said, "parameters", name, "when", cause)
    for cause in parameter.follows:
        place = ("parameters", name, *_side(parameter, cause))
        if cause not in parameters:
            raise SpaceError(unknown(f"parameter for '{name}' to follow:", cause, parameters), *place, "of")
        followed = parameters[cause]
        if isinstance(followed, CategoricalParameter) and not all(map(is_number, followed.choices)):
            no_number = f"'{name}' follows '{cause}', which must be a number; not all of its choices are."
            raise SpaceError(no_number, *place, "of")


def _side(parameter: Parameter, cause: str | None = None) -> list[str]:
    """Return the limit that follows a cause, or any."""
    for side in ("low", "high"):
        of = getattr(getattr(parameter, side, None), "of", None)
        if of is not None and cause in (None, of):
            return [side]
    return []


def _check_conditions(parameters: Parameters, name: str) -> None:
    """Refuse a condition that names a value which its cause can't have."""
    for cause, allowed in parameters[name].conditions.items():
        for number, value in enumerate(allowed):
            if _can_take(parameters, cause, value):
                continue
            place = ("parameters", name, "when", cause, number)
            parameter = parameters[cause]
            if isinstance(parameter, CategoricalParameter):
                kind = f"value of '{cause}' for '{name}' to depend on:"
                raise SpaceError(unknown(kind, str(value), map(str, parameter.choices)), *place)
            low, high = widest(parameters, cause)
            step = "" if parameter.step in (None, 1) else f" in steps of {parameter.step:g}"
            raise SpaceError(
                f"'{name}' is asked for where '{cause}' is {value}, which it can't be: it lies in "
                f"[{low:g}, {high:g}]{step}.",
                *place,
            )


def _can_take(parameters: Parameters, cause: str, value: Value) -> bool:
    parameter = parameters[cause]
    if not parameter.follows:
        return parameter.holds(value)
    low, high = widest(parameters, cause)
    return not isinstance(value, str | bool) and low <= value <= high


def _check_followed_are_there(parameters: Parameters, name: str) -> None:
    """Refuse limits that follow a parameter which isn't asked for wherever they are needed."""
    there = required(parameters, name)
    for cause in sorted(parameters[name].follows):
        for condition, allowed in required(parameters, cause).items():
            if condition not in there or any(value not in allowed for value in there[condition]):
                raise SpaceError(
                    f"'{name}' follows '{cause}', which is asked for under conditions on '{condition}' "
                    f"alone: give '{name}' the same conditions.",
                    *("parameters", name, *_side(parameters[name], cause)),
                )


def _check_can_be(parameters: Parameters, name: str) -> None:
    """Refuse conditions that never hold together."""
    place = ("parameters", name, "when")
    needed = required(parameters, name)
    for cause, allowed in needed.items():
        if not allowed:
            raise SpaceError(
                f"'{name}' can never be asked for: its conditions, with those of the parameters that it "
                f"depends on, leave no value of '{cause}'.",
                *place,
            )
    is_whole = all(
        each in needed or _is_tried_whole(parameters[each]) for each in _ancestors(parameters, name)
    )
    if is_whole and next(assignments(parameters, name), None) is None:
        causes = ", ".join(f"'{cause}'" for cause in needed)
        raise SpaceError(
            f"'{name}' can never be asked for: its conditions on {causes} never hold together.", *place
        )


def _check_ranges(parameters: Parameters, name: str) -> None:
    """Refuse a range that is empty for some value of what it follows, and a default outside of it."""
    parameter = parameters[name]
    for point in assignments(parameters, name) if parameter.follows else ():
        flaw = parameter.at(point).flaw()
        if flaw is not None:
            causes = ", ".join(f"'{cause}' is {point[cause]}" for cause in sorted(parameter.follows))
            said = f"'{name}' has no values where {causes}: {flaw}."
            raise SpaceError(said, "parameters", name, *_side(parameter))
    default = parameter.default
    if default is not None and not parameter.follows and not parameter.holds(default):
        kind = f"value of '{name}' for its default:"
        raise SpaceError(
            unknown(kind, str(default), map(str, parameter.edges())), "parameters", name, "default"
        )
