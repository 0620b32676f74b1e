"""Space files: which are shipped, and how one is read, overridden and checked, each fault with its line."""

import re
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hkbench.data.augment import ViewPolicy
from hkbench.errors import UsageError, unknown
from hkbench.spaces.checks import edge_settings
from hkbench.spaces.limits import DERIVED, NUMBER, Limit, OfParameter, OfTeacher
from hkbench.spaces.lines import Place, SpaceError, read_document
from hkbench.spaces.parameters import CategoricalParameter, FloatParameter, IntParameter
from hkbench.spaces.seeds import SeedPoint
from hkbench.spaces.space import Schedule, Space
from hkbench.training.teacher import TeacherRecipe

SCHEMA_FILE = "space.schema.json"
"""Beside the shipped spaces: what editors check a space file by."""
PARAMETERS: dict[str, type[BaseModel]] = {
    "float": FloatParameter,
    "int": IntParameter,
    "categorical": CategoricalParameter,
}
GROUPS: dict[str, type[BaseModel]] = {
    "schedule": Schedule,
    "constraints": Limit,
    "start_with": SeedPoint,
    "teacher": TeacherRecipe,
    "more_teachers": TeacherRecipe,
    "augmentation": ViewPolicy,
}
"""A key of a space → what its value, or each of its values, is."""


def spaces_folder() -> Path:
    """Return the folder of the spaces that come with hkbench, and of their schema."""
    packed = Path(str(resources.files("hkbench"))) / "_spaces"
    return packed if packed.is_dir() else Path(str(resources.files("hkbench"))).parent / "search_spaces"


def shipped_spaces() -> dict[str, Path]:
    """Return the spaces that come with hkbench, by name."""
    return {file.stem: file for file in sorted(spaces_folder().glob("*.yaml"))}


def load_space(name_or_path: str, overrides: dict[str, str] | None = None) -> Space:
    """Read a shipped space by name or any YAML file by path; `overrides` are dotted keys with YAML values.

    Raises:
        UsageError: no such space, YAML that doesn't parse, an unknown key or a value out of range; names the
            line, or the override.
    """
    path = space_path(name_or_path)
    document = read_document(path.read_bytes(), str(path))
    found = document.content
    if not isinstance(found, dict):
        said = "a space holds keys such as 'parameters' and 'objectives'"
        raise UsageError(f"{document.at(())}: {said}, found {type(found).__name__}.")
    for key, value in (overrides or {}).items():
        _override(found, key, value)
    try:
        return _validated(found)
    except SpaceError as error:
        where = _override_at(error.place, overrides or {}) or document.at(error.place)
        raise UsageError(f"{where}: {error}") from error


def space_path(name_or_path: str) -> Path:
    """Return the file of a shipped space, or the path itself.

    Raises:
        UsageError: there is no such space and no such file.
    """
    shipped = shipped_spaces()
    if name_or_path in shipped:
        return shipped[name_or_path]
    if not Path(name_or_path).is_file():
        raise unknown("space", name_or_path, shipped)
    return Path(name_or_path)


def _override(found: dict[str, Any], key: str, value: str) -> None:
    *parents, last = key.split(".")
    place = found
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise UsageError(f"--set {key}: '{parent}' is a value, not a group of keys.")
    place[last] = parse_yaml(value.encode(), f"--set {key}")


def _override_at(place: Place, overrides: dict[str, str]) -> str | None:
    """Return the override that a place lies in, or that lies in the place; None if neither is so."""
    parts = [str(part) for part in place]
    for key in reversed(overrides):
        given = key.split(".")
        shared = min(len(parts), len(given))
        if shared > 0 and parts[:shared] == given[:shared]:
            return f"--set {key}"
    return None


def parse_yaml(content: bytes, where: str) -> Any:
    """Read YAML; `where` names it in the error.

    Raises:
        UsageError: it can't be read, or a key is there twice.
    """
    return read_document(content, where, lines=False).content


def _validated(found: dict[str, Any]) -> Space:
    try:
        space = Space.model_validate(found)
    except ValidationError as error:
        # An unknown key comes before a missing one: it is the same key, misspelt.
        problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        raise SpaceError(_said(problems[0]), *_place(problems[0]["loc"])) from error
    edge_settings(space)
    return space


def _place(way: Place) -> Place:
    """Return the way to a fault without what pydantic puts between: the kinds of parameters and of limits."""
    kinds = PARAMETERS if way[:1] == ("parameters",) else {}
    return tuple(
        part
        for number, part in enumerate(way)
        if number < 2 or part not in (DERIVED, NUMBER, *(kinds if number == 2 else ()))
    )


def _said(problem: ErrorDetails) -> str:
    """Say in one line what is wrong, with the nearest known name where one is unknown."""
    where, given = ".".join(map(str, _place(problem["loc"]))), problem["input"]
    expected = re.findall(r"'([^']*)'", str(problem.get("ctx", {}).get("expected_tags", "")))
    expected += re.findall(r"'([^']*)'", str(problem.get("ctx", {}).get("expected", "")))
    if problem["type"] == "extra_forbidden":
        return f"at '{where}': {unknown('key', str(problem['loc'][-1]), _keys(problem['loc']))}"
    if problem["type"] == "union_tag_invalid":
        return f"at '{where}': {unknown('type', str(given.get('type')), expected)}"
    if problem["type"] == "literal_error":
        return f"at '{where}': {unknown('value', str(given), expected)}"
    found = "" if isinstance(given, dict | list) or problem["type"] == "missing" else f", found {given!r}"
    return f"at '{where}': {problem['msg'].removeprefix('Value error, ')}{found}."


def _keys(place: Place) -> set[str]:
    """Return the keys that are known where an unknown one is."""
    group, *way = map(str, place[:-1]) if len(place) > 1 else ("",)
    model: type[BaseModel] = GROUPS.get(group, Space)
    if group == "parameters":
        model = OfParameter if way[-1] == DERIVED else PARAMETERS[way[1]]
    if group == "constraints" and way[-1] == DERIVED and len(way) > 1:
        model = OfTeacher
    return set(model.model_fields)
