"""`hkbench data`, as typed."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hkbench.cli.data import app
from hkbench.errors import UsageError


def test_without_sizes_those_of_the_demo_are_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    from PIL import Image

    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path / "cache"))
    pixels = np.random.default_rng(0).integers(0, 256, (6, 20, 20, 3), dtype=np.uint8)
    for number, picture in enumerate(pixels):
        folder = tmp_path / "shop" / ("cup", "lamp")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number}.png")
    done = CliRunner().invoke(app, ["build", str(tmp_path / "shop")])
    assert done.exit_code == 0, done.output
    assert [line.split(":")[0] for line in done.stdout.splitlines() if " px: " in line] == ["56 px", "96 px"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of one entry that wasn't used since 2001 and one of today's that is as large."""
    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path))
    for name in ("old.npy", "new.npy"):
        path = tmp_path / "logits" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(1 << 20))
    os.utime(tmp_path / "logits" / "old.npy", (1e9, 1e9))
    return tmp_path


def prune(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["prune", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_prune_without_a_rule_shows_the_cache(cache: Path) -> None:
    shown = prune()
    assert "logits/old.npy" in shown
    assert "2.1 MB" in shown
    assert "--older-than 30d" in shown
    assert len(json.loads(prune("--json"))["kept"]) == 2
    assert len(list((cache / "logits").iterdir())) == 2


@pytest.mark.parametrize("rule", [("--older-than", "30d"), ("--max-size", "1.5MB")])
def test_prune_removes_what_it_says(cache: Path, rule: tuple[str, str]) -> None:
    assert "1 would be removed, 1.0 MB" in prune(*rule, "--dry-run")
    assert (cache / "logits" / "old.npy").exists()
    found = json.loads(prune(*rule, "--json"))
    assert [Path(row["path"]).name for row in found["removed"]] == ["old.npy"]
    assert [path.name for path in (cache / "logits").iterdir()] == ["new.npy"]


@pytest.mark.parametrize("rule", [("--older-than", "30"), ("--max-size", "20")])
def test_prune_refuses_what_is_no_age_or_size(cache: Path, rule: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="such as"):
        prune(*rule)
