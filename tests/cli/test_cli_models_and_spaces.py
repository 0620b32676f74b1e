"""`hkbench models` and `hkbench spaces`, as typed."""

import json

import pytest
from typer.testing import CliRunner

from hkbench.cli.app import app
from hkbench.errors import UsageError
from hkbench.models.registry import MODELS
from hkbench.spaces.file import shipped_spaces


def hkbench(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def listed(*arguments: str) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads(hkbench("models", "list", *arguments, "--json"))["models"]}


def test_every_network_of_the_registry_is_listed_with_its_counts():
    rows = listed()
    assert rows.keys() == MODELS.keys()
    for row in rows.values():
        assert row["macs"] > 0
        assert 0 < row["int8_bytes"] < row["fp32_bytes"] == 4 * row["parameters"]
        assert row["weights"] is None or (row["licence"] and row["origin"])
    assert rows["efficientnet_lite0"]["at_hand"]


def test_published_counts_come_out_for_imagenet():
    rows = listed("*net*", "--task", "imagenet")
    assert rows["squeezenet1_1"]["parameters"] == 1_235_496
    assert rows["mobilenetv2_100"]["macs"] / 1e6 == pytest.approx(300, rel=0.02)
    assert rows["densenet121"]["macs"] / 1e9 == pytest.approx(2.85, rel=0.02)


def test_a_limit_of_megabytes_leaves_the_small_ones():
    small = listed("--max-mb", "5", "--task", "imagenet")
    assert "squeezenet1_1" in small
    assert "densenet121" not in small
    assert all(row["fp32_bytes"] <= 5e6 for row in small.values())


def test_patterns_look_into_the_libraries():
    assert set(listed("torchvision/resnet1?")) == {"torchvision/resnet18"}
    with pytest.raises(UsageError, match="No model matches 'squash"):
        CliRunner().invoke(app, ["models", "list", "squash*"], catch_exceptions=False)


def test_show_names_weights_stages_and_licence():
    shown = hkbench("models", "show", "squeezenet1_1")
    assert "squeezenet1_1-b8a52dc0.pth" in shown
    assert "BSD-3-Clause" in shown
    assert "stage 1" in shown


def test_a_table_is_printed_for_people():
    assert "household_s" in hkbench("models", "list", "household*")


def test_every_shipped_space_is_listed_and_checked():
    found = json.loads(hkbench("spaces", "list", "--json"))["spaces"]
    assert found.keys() == shipped_spaces().keys()
    wanted = {
        "distill",
        "thesis",
        "transfer",
        "architecture",
        "optimizers",
        "activations",
        "compress",
        "everything",
    }
    assert wanted <= found.keys()
    assert "16 architectures" not in hkbench("spaces", "check", "distill")
    assert "5 architectures, 4 seed points" in hkbench("spaces", "check", "distill")


def test_show_keeps_the_comments():
    assert "# Which small student" in hkbench("spaces", "show", "distill")
    assert json.loads(hkbench("spaces", "show", "distill", "--json"))["name"] == "distill"


def test_samples_are_points_of_the_space_and_the_seed_makes_them():
    first = json.loads(hkbench("spaces", "sample", "distill", "-n", "3", "--json"))["points"]
    assert len(first) == 3
    assert first == json.loads(hkbench("spaces", "sample", "distill", "-n", "3", "--json"))["points"]
    assert len(hkbench("spaces", "sample", "distill", "-n", "4", "--seed", "1").splitlines()) == 4


def test_a_file_that_is_no_space_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nabout: none\nparameters: {}\n")
    with pytest.raises(UsageError, match="parameters"):
        CliRunner().invoke(app, ["spaces", "check", str(path)], catch_exceptions=False)
