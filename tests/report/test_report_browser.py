"""The page in a real browser, from file://, under its own policy."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from synthetic_run import MakeRun, model_record

from hkbench.report.figures import FIGURES
from hkbench.report.page import build_report
from hkbench.store.rundir import RunDirectory

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=20000",
    "--enable-logging=stderr",
]  # fmt: skip


def dumped(page: Path, profile: Path) -> tuple[str, str]:
    """Return the page's DOM after its scripts have run, and what the browser logged."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


def test_every_chart_is_drawn_and_the_policy_is_kept(finished_run: RunDirectory, tmp_path: Path) -> None:
    page = build_report(finished_run, tmp_path / "report.html")
    dom, logged = dumped(page, tmp_path / "profile")
    assert f'data-drawn="{len(FIGURES)}"' in dom
    charts = re.split(r'data-chart="', dom)[1:]
    assert len(charts) == len(FIGURES)
    assert all("main-svg" in chart for chart in charts)
    assert "Content Security Policy" not in logged
    assert "could not be drawn" not in re.sub(r"<script.*?</script>", "", dom, flags=re.DOTALL)


def test_a_hostile_name_is_shown_and_does_nothing(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    name = "<a href='javascript:document.title=1'>x</a><script>document.title='taken'</script>"
    run.write_model(model_record("evil", "student", [], model=name, size_bytes=2_000_000, trial=3))
    dom, _ = dumped(build_report(run), tmp_path / "profile")
    assert "<title>run · hkbench report</title>" in dom
    assert f'data-drawn="{len(FIGURES)}"' in dom
    without_scripts = re.sub(r"<script.*?</script>", "", dom, flags=re.DOTALL)
    assert "document.title=1" in without_scripts
    assert not re.search(r"<a [^>]*javascript:", without_scripts)
