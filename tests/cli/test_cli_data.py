"""`hkbench data`, as typed."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hkbench.cli.data import app


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
