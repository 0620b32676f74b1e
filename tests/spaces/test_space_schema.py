"""The schema for editors: what is shipped is what the code makes, and it tells a space from what is none."""

import json

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from hkbench.cli.app import app
from hkbench.spaces.file import SCHEMA_FILE, shipped_spaces, spaces_folder
from hkbench.spaces.schema import DIALECT, space_schema, written
from hkbench.spaces.space import OBJECTIVES
from hkbench.training.losses import LOSSES

RENEW = f"renew it: hkbench spaces schema > search_spaces/{SCHEMA_FILE}"


@pytest.fixture(scope="module")
def schema():
    return space_schema()


@pytest.fixture(scope="module")
def validator(schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_shipped_schema_is_what_the_code_makes(schema):
    assert (spaces_folder() / SCHEMA_FILE).read_text(encoding="utf-8") == written(schema), RENEW


def test_the_command_prints_it(schema):
    runner = CliRunner()
    assert json.loads(runner.invoke(app, ["spaces", "schema"]).stdout) == schema
    one_line = runner.invoke(app, ["spaces", "schema", "--json"]).stdout
    assert json.loads(one_line) == schema
    assert len(one_line.splitlines()) == 1


@pytest.mark.parametrize("name", shipped_spaces())
def test_a_shipped_space_is_valid_and_names_the_schema(name, validator):
    text = shipped_spaces()[name].read_text(encoding="utf-8")
    assert text.startswith(f"# yaml-language-server: $schema={SCHEMA_FILE}\n")
    validator.validate(yaml.safe_load(text))


def test_the_schema_is_no_space():
    assert SCHEMA_FILE.split(".")[0] not in shipped_spaces()


def keys_of(schema, way=()):
    if isinstance(schema, dict):
        for name, part in schema.get("properties", {}).items():
            yield (*way, name), part
        for name, part in schema.items():
            if name not in ("then", "examples"):
                yield from keys_of(part, (*way, name))


def test_every_key_is_described(schema):
    found = list(keys_of(schema))
    assert len(found) > 100
    for way, key in found:
        assert len(key.get("description", "")) > 6, way


def test_names_are_those_that_the_code_knows(schema):
    assert schema["$schema"] == DIALECT
    keys = schema["properties"]
    assert set(keys["objectives"]["properties"]) == set(OBJECTIVES) == set(keys["constraints"]["properties"])
    assert keys["defaults"]["properties"]["loss"]["enum"] == sorted(LOSSES)


MINIMAL = {
    "name": "minimal",
    "about": "a test",
    "parameters": {
        "loss": {"type": "categorical", "choices": ["kd", "hard"]},
        "image_size": {"type": "categorical", "choices": [32, 64]},
        "batch_size": {"type": "int", "low": 2, "high": {"of": "image_size", "times": 0.5}},
        "rate": {"type": "float", "low": 0.1, "high": 1, "sets": "learning_rate"},
    },
    "objectives": {"accuracy": "maximize"},
    "constraints": {"accuracy": {"at_least": {"of": "teacher", "plus": -0.01}}},
}


@pytest.mark.parametrize(
    "change",
    [
        {"abuot": "x"},
        {"objectives": {"acuracy": "maximize"}},
        {"objectives": {"accuracy": "most"}},
        {"objectives": {}},
        {"constraints": {"accuracy": {"at_least": {"of": "student"}}}},
        {"parameters": {"loss": {"type": "categorical", "choices": ["kdd"]}}},
        {"parameters": {"model": {"type": "categorical", "choices": ["squeezenet9"]}}},
        {"parameters": {"rate": {"type": "float", "low": 0.1, "high": 1}}},
        {"parameters": {"rate": {"type": "float", "low": 0.1, "high": 1, "sets": "learningrate"}}},
        {"parameters": {"batch_size": {"type": "int", "low": 2, "high": {"off": "image_size"}}}},
        {"defaults": {"optimizer": "sdg"}},
        {"defaults": {"block": "fir"}},
        {"teacher": {"optimizer": "sdg"}},
        {"schedule": {"trials": 0}},
        {"start_with": [{"name": "without a source"}]},
    ],
)
def test_the_schema_refuses_what_is_no_space(validator, change):
    validator.validate(MINIMAL)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**MINIMAL, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": {"loss": {"type": "categorical", "choices": [1, 2], "sets": "seed"}}},
        {"parameters": {"model": {"type": "categorical", "choices": ["timm/resnet18"]}}},
        {"defaults": {"model": "torchvision/resnet18", "kernel_size": 5, "width": 0.5, "compiled": False}},
    ],
)
def test_the_schema_takes_what_the_code_takes(validator, change):
    validator.validate({**MINIMAL, **change})
