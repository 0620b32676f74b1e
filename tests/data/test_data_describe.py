import json
from pathlib import Path

import pytest
from pictures_on_disk import CLASSES, class_folders, encoded
from typer.testing import CliRunner

from hkbench.cli.data import app
from hkbench.data.build import build_store
from hkbench.data.describe import describe
from hkbench.data.sources import open_source
from hkbench.data.splits import load_split
from hkbench.errors import UsageError

PATTERN = r"(product\d)_"
runner = CliRunner()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path / "cache"))
    folder = class_folders(tmp_path / "shop", per_class=10)
    (folder / "lamp" / "product0_11.png").write_bytes(encoded(77))
    return folder


def printed_json(*arguments: str) -> dict[str, object]:
    result = runner.invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_a_description_counts_classes_groups_and_parts(folder: Path) -> None:
    found = describe(open_source(str(folder), PATTERN), "by-group")
    assert [row.name for row in found.classes] == list(CLASSES)
    assert (found.pictures, found.groups) == (31, 9)
    assert (found.largest.name, found.largest.pictures, found.smallest.pictures) == ("lamp", 11, 10)
    assert sum(part.pictures for part in found.parts) == 31
    assert found.stores == ()


def test_the_split_that_is_described_is_the_one_of_a_search(folder: Path) -> None:
    (folder / "lamp" / "torn.png").write_bytes(b"no picture")
    source = open_source(str(folder))
    before = describe(source, "random")
    store = build_store(source, 8)
    after = describe(source, "random")
    assert after.split_hash == load_split(store, "random").hash != before.split_hash
    assert after.pictures == before.pictures == 32
    assert [name for name, _ in after.stores[0].rejected] == ["lamp/torn.png"]


def test_info_shows_what_a_user_needs(folder: Path) -> None:
    result = runner.invoke(app, ["info", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0
    for text in ("31", "lamp (11)", "not known", "random split", "validation", "70"):
        assert text in result.stdout


def test_info_as_json(folder: Path) -> None:
    found = printed_json("info", str(folder), "--split", "by-group", "--group-by", PATTERN)
    assert found["groups"] == 9
    assert found["scheme"] == "by-group"
    assert found["smallest"] == {"name": "chair", "pictures": 10}


def test_build_makes_a_store_for_each_size(folder: Path) -> None:
    found = printed_json("build", str(folder), "--size", "16,8")
    assert [store["size"] for store in found["stores"]] == [8, 16]
    assert all(Path(store["path"]).is_dir() for store in found["stores"])
    result = runner.invoke(app, ["build", str(folder), "--size", "8"], catch_exceptions=False)
    assert "8 px: 31 pictures" in result.stdout


def test_info_names_rejected_pictures_once_built(folder: Path) -> None:
    (folder / "lamp" / "torn.png").write_bytes(b"no picture")
    runner.invoke(app, ["build", str(folder), "--size", "8"], catch_exceptions=False)
    assert "rejected lamp/torn.png: not a picture" in runner.invoke(app, ["info", str(folder)]).stdout


def test_list_names_the_data_sets(folder: Path) -> None:
    assert printed_json("list") == {"datasets": ["goods69"]}
    assert runner.invoke(app, ["list"]).stdout.split() == ["goods69"]


@pytest.mark.parametrize("arguments", [["info", "goods96"], ["build", "goods96", "--size", "64"]])
def test_bad_names_are_usage_errors(arguments: list[str], folder: Path) -> None:
    with pytest.raises(UsageError, match="goods69"):
        runner.invoke(app, arguments, catch_exceptions=False)


@pytest.mark.parametrize("command", ["list", "info", "build"])
def test_help_has_an_example(command: str) -> None:
    assert f"hkbench data {command}" in runner.invoke(app, [command, "--help"]).stdout
