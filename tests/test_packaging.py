"""The wheel holds all that a search needs in an empty folder, and nothing that must not travel."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LARGEST_BYTES = 60_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_spaces_pictures_teacher_and_page_are_inside(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"hkbench/_spaces/{file.name}" for file in (ROOT / "search_spaces").iterdir()} <= names
    assert {
        "hkbench/data/goods69/pictures.parquet",
        "hkbench/data/goods69/credits.csv",
        "hkbench/report/templates/page.html",
        "hkbench/report/vendor/plotly-cartesian.LICENSE",
        "hkbench/py.typed",
    } <= names
    assert any(
        name.startswith("hkbench/training/shipped/") and name.endswith(".safetensors") for name in names
    )
    assert not any(name.split("/")[0] in ("tests", "results", "tools", "benchmarks") for name in names)
    assert wheel.stat().st_size < LARGEST_BYTES


def test_an_unpacked_wheel_finds_its_spaces_away_from_the_repository(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import hkbench, hkbench.spaces.file as s; "
        "print(hkbench.__file__); print(*s.shipped_spaces()); print(s.load_space('distill').name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "site",
        capture_output=True,
        text=True,
        check=True,
    )
    file, spaces, name = done.stdout.splitlines()
    assert Path(file).is_relative_to(tmp_path)
    assert name in spaces.split()
