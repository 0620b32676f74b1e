"""What a space is checked for before anything trains, beyond its own keys and names."""

from collections.abc import Mapping
from typing import Any

from hkbench.errors import UsageError
from hkbench.models.architecture import Architecture
from hkbench.models.build import build, left_out
from hkbench.spaces.conditions import extremes
from hkbench.spaces.lines import Place, SpaceError, spoken_of
from hkbench.spaces.parameters import CategoricalParameter, Parameter
from hkbench.spaces.seeds import filled_in
from hkbench.spaces.settings import TrialSettings, lost_worth
from hkbench.spaces.space import Space


def edge_settings(space: Space) -> list[TrialSettings]:
    """Return the settings of the seed points, and of points that reach every choice and end of a range.

    Raises:
        SpaceError: a value that no trial could have, and where it is.
    """
    found = []
    for number, seed in enumerate(space.start_with):
        for _, params in filled_in(space.parameters, seed, number):
            places = {name: ("start_with", number, *seed.place(name)) for name in seed.params | seed.each}
            found.append(_settings(space, space.completed(params), places, ("start_with", number)))
    for name, parameter in space.parameters.items():
        for causes in extremes(space.parameters, name):
            for number, value in enumerate(parameter.at(causes).edges()):
                place = ("parameters", name, *_edge(parameter, number))
                point = space.completed({**causes, name: value})
                found.append(_settings(space, point, {name: place}, place))
    return found


def _edge(parameter: Parameter, number: int) -> Place:
    return ("choices", number) if isinstance(parameter, CategoricalParameter) else (("low", "high")[number],)


def _settings(
    space: Space, point: dict[str, Any], places: Mapping[str, Place], otherwise: Place
) -> TrialSettings:
    """Return a point's settings; a fault lies where the setting is that the error names first.

    `places` say where parameters have their value, by default with the parameter; `otherwise` where a fault
    lies that names no setting.
    """
    try:
        return space.settings(point)
    except UsageError as error:
        sets = {space.parameters[name].sets or name: name for name in point}
        setting = spoken_of(str(error), space.chosen(point))
        if setting is None:
            raise SpaceError(error, *otherwise) from error
        if setting not in sets:
            raise SpaceError(error, "defaults", setting) from error
        name = sets[setting]
        raise SpaceError(error, *places.get(name, ("parameters", name))) from error


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
