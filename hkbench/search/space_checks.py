"""What a space is checked for before anything trains, beyond its own keys and names."""

from typing import Any

from hkbench.errors import UsageError
from hkbench.models.architecture import Architecture
from hkbench.models.build import build, left_out
from hkbench.search.parameters import Value
from hkbench.search.settings import TrialSettings, lost_worth
from hkbench.search.space import MOST_LISTED, Space


def edge_settings(space: Space) -> list[TrialSettings]:
    """Return the settings of the seed points, and of points that reach every choice and end of a range.

    Raises:
        UsageError: a value that no trial could have.
    """
    seeds = [space.settings(space.completed(params)) for _, params in space.seed_points()]
    return seeds + [
        space.settings(_reaching(space, name, value))
        for name, parameter in space.parameters.items()
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
    return space.completed(forced)


def refuse_untimed(space: Space) -> None:
    """Refuse latency as an objective or a limit where there are too many networks to be timed beforehand.

    Raises:
        UsageError: says what to take instead.
    """
    if "latency_ms" in {*space.objectives, *space.constraints} and space.architectures() is None:
        raise UsageError(
            "latency_ms is measured before the first trial, while nothing else runs, and this space has more "
            f"than {MOST_LISTED} architectures. Take macs in its place, or let the space list fewer."
        )


def check_weights(space: Space) -> None:
    """Build every network that starts from weights once: some can't be had, or don't fit.

    Raises:
        UsageError: the file that is missing, or the tensors that don't fit.
    """
    starts = {(found.architecture, found.weights) for found in edge_settings(space)}
    if space.may_need_teacher():
        for teacher in (space.teacher, *space.more_teachers):
            architecture = Architecture(model=teacher.model, image_size=teacher.image_size)
            starts.add((architecture, teacher.weights or "none"))
    for architecture, weights in sorted(starts, key=str):
        if weights != "none":
            build(architecture, classes=2, weights=weights)


def warnings_of(space: Space) -> list[str]:
    """Return what a user should know of a space before anything trains."""
    found = edge_settings(space)
    said = [*map(lost_worth, found), *(left_out(settings.architecture) for settings in found)]
    return list(dict.fromkeys(filter(None, said)))
