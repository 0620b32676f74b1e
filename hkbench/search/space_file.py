"""Space files: which are shipped, and how one is read, overridden and checked, each fault named in a line."""

from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from hkbench.data.augment import ViewPolicy
from hkbench.errors import UsageError, unknown
from hkbench.search.parameters import FloatParameter
from hkbench.search.space import Limit, Schedule, SeedPoint, Space
from hkbench.search.space_checks import edge_settings, refuse_untimed
from hkbench.training.teacher import TeacherRecipe


def shipped_spaces() -> dict[str, Path]:
    """Return the spaces that come with hkbench, by name."""
    packed = Path(str(resources.files("hkbench"))) / "_spaces"
    folder = packed if packed.is_dir() else Path(str(resources.files("hkbench"))).parent / "search_spaces"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def load_space(name_or_path: str, overrides: dict[str, str] | None = None) -> Space:
    """Read a shipped space by name or any YAML file by path; `overrides` are dotted keys with YAML values.

    Raises:
        UsageError: no such space, YAML that doesn't parse, an unknown key or a value out of range.
    """
    path = space_path(name_or_path)
    found = parse_yaml(path.read_bytes(), str(path))
    if not isinstance(found, dict):
        raise UsageError(f"{path} must hold keys such as 'parameters' and 'objectives'; found {type(found)}.")
    for key, value in (overrides or {}).items():
        _override(found, key, value)
    return _validated(found, path)


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


def parse_yaml(content: bytes, where: str) -> Any:
    """Read YAML; `where` names it in the error.

    Raises:
        UsageError: it can't be read.
    """
    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{where} is no YAML that can be read: {' '.join(str(error).split())}") from error


def _validated(found: dict[str, Any], path: Path) -> Space:
    try:
        space = Space.model_validate(found)
    except ValidationError as error:
        raise UsageError(f"{path}: {_first_problem(error)}") from error
    edge_settings(space)
    refuse_untimed(space)
    return space


def _first_problem(error: ValidationError) -> str:
    """Say in one line what is wrong, with the nearest known key where a key is unknown."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        groups: dict[str, type[BaseModel]] = {
            "parameters": FloatParameter,
            "schedule": Schedule,
            "constraints": Limit,
            "start_with": SeedPoint,
            "teacher": TeacherRecipe,
            "augmentation": ViewPolicy,
        }
        model = groups.get(str(problem["loc"][0]), Space) if len(problem["loc"]) > 1 else Space
        fields = {*model.model_fields, *(["choices"] if model is FloatParameter else [])}
        return f"at '{where}': {unknown('key', str(problem['loc'][-1]), fields)}"
    return f"at '{where}': {problem['msg']}"
