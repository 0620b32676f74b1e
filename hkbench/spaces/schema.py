"""The JSON Schema of space files, for editors: keys with what they are, and the names that are known."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from hkbench.models.activations import ACTIVATIONS
from hkbench.models.architecture import OPTIONS
from hkbench.models.counts import PRECISIONS
from hkbench.models.household.config import HouseholdConfig
from hkbench.models.registry import LIBRARIES, MODELS
from hkbench.spaces import descriptions
from hkbench.spaces.settings import TrialSettings
from hkbench.spaces.space import OBJECTIVES, Space
from hkbench.training.losses import LOSSES
from hkbench.training.optimizers import OPTIMIZERS
from hkbench.training.schedules import SCHEDULES

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def space_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of a space file.

    It refuses less than `load_space`, which also knows of conditions, limits and networks.
    """
    schema: Schema = _without_titles(Space.model_json_schema())
    kinds, keys = schema["$defs"], schema["properties"]
    settings = _settings()
    for kind, words in (
        ("Schedule", descriptions.SCHEDULE),
        ("TeacherRecipe", descriptions.TEACHER),
        ("ViewPolicy", descriptions.VIEWS),
    ):
        _describe(kinds[kind]["properties"], words)
    for name in ("model", "optimizer"):
        kinds["TeacherRecipe"]["properties"][name] |= _known(name)
    for kind in ("FloatParameter", "IntParameter", "CategoricalParameter"):
        kinds[kind]["properties"]["sets"] = {
            "description": kinds[kind]["properties"]["sets"]["description"],
            "enum": sorted(TrialSettings.model_fields),
        }
    kinds["Parameter"] = {"oneOf": keys["parameters"]["additionalProperties"]["oneOf"]}
    keys["parameters"] |= {
        "properties": {name: _parameter(of) for name, of in settings.items()},
        "additionalProperties": {"allOf": [{"$ref": "#/$defs/Parameter"}, {"required": ["sets"]}]},
    }
    for group in ("objectives", "constraints"):
        each = keys[group]["additionalProperties"]
        listed = {name: dict(each) for name in OBJECTIVES}
        _describe(listed, descriptions.OBJECTIVES)
        keys[group] |= {"properties": listed, "additionalProperties": False}
    keys["defaults"] |= {"properties": settings, "additionalProperties": False}
    return {"$schema": DIALECT, "title": "hkbench space", **schema}


def written(schema: Schema) -> str:
    """Return the schema as the text of its file."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _parameter(setting: Schema) -> Schema:
    """Return the schema of a parameter that has a setting's name: its choices are that setting's values.

    With `sets` it gives them to another.
    """
    values = {name: value for name, value in setting.items() if name not in ("description", "default")}
    return {
        "description": setting["description"],
        "$ref": "#/$defs/Parameter",
        "if": {"not": {"required": ["sets"]}},
        "then": {"properties": {"choices": {"items": values}}},
    }


def _settings() -> dict[str, Schema]:
    """Return what each setting of a trial may be; null, which leaves it out, aside."""
    found = _without_titles(TrialSettings.model_json_schema())["properties"]
    options = _without_titles(HouseholdConfig.model_json_schema())["properties"]
    found |= {
        name: {key: part for key, part in options[name].items() if key != "default"} for name in OPTIONS
    }
    for name, setting in found.items():
        if "anyOf" in setting:
            (one,) = (each for each in setting.pop("anyOf") if each != {"type": "null"})
            setting |= one
        if setting.get("default", 0) is None:
            del setting["default"]
        setting |= _known(name)
    _describe(found, descriptions.SETTINGS)
    return dict(found)


def _known(name: str) -> Schema:
    """Return the names that a setting may have, where they can be listed."""
    if name == "model":
        prefixes = "|".join(LIBRARIES)
        return {"anyOf": [{"enum": sorted(MODELS)}, {"pattern": f"^({prefixes})"}]}
    listed: dict[str, Iterable[str]] = {
        "activation": ACTIVATIONS,
        "loss": LOSSES,
        "optimizer": OPTIMIZERS,
        "precision": PRECISIONS,
        "schedule": SCHEDULES,
    }
    return {"enum": sorted(listed[name])} if name in listed else {}


def _describe(properties: dict[str, Schema], words: Mapping[str, str]) -> None:
    for name, schema in properties.items():
        schema["description"] = words[name]


def _without_titles(schema: Any) -> Any:
    """Drop what adds nothing: pydantic's titles, made of names, and OpenAPI's discriminators."""
    if isinstance(schema, dict):
        return {
            name: _without_titles(part)
            for name, part in schema.items()
            if name != "discriminator" and not (name == "title" and isinstance(part, str))
        }
    return [_without_titles(part) for part in schema] if isinstance(schema, list) else schema
