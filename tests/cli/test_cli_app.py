"""The command as typed: help, exit codes, one line for each error, nothing heavy before it is needed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hkbench.cli.app import main

HKBENCH = Path(sys.executable).parent / "hkbench"


def hkbench(*arguments, **environment):
    return subprocess.run(
        [HKBENCH, *arguments], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


@pytest.mark.parametrize("verb", ["search", "benchmark", "report", "data build", "data info"])
def test_every_verb_helps_with_an_example(verb):
    done = hkbench(*verb.split(), "--help", COLUMNS="100")
    assert done.returncode == 0
    assert f"Example: hkbench {verb}" in done.stdout


def test_help_loads_neither_torch_nor_ray():
    code = "import sys, hkbench.cli.app; print({'torch', 'ray', 'optuna', 'timm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "--space", "distil"], "no space 'distil'. Did you mean 'distill'?"),
        (["search", "--data", "good69"], "no data set or folder 'good69'. Did you mean 'goods69'?"),
        (["search", "--set", "schedule.max_epoch=3"], "Did you mean 'max_epochs'?"),
        (["search", "--set", "teacher.model=densenet"], "There is no model 'densenet'"),
        (["search", "--set", "half"], "--set takes key=value"),
        (["search", "--budget", "soon"], "'200 epochs'; found 'soon'"),
        (["search", "--split", "by-groups"], "Did you mean 'by-group'?"),
        (["search", "--device", "cuba"], "Did you mean 'cuda'?"),
        (["search", "--resume"], "There is no search to resume"),
        (["report", "nowhere"], "nowhere is not a run directory"),
        (["benchmark", "nowhere"], "nowhere is not a run directory"),
        (["data", "info", "good69"], "Did you mean 'goods69'?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["hkbench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    (error,) = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert message in error
    assert said.out == ""


def test_the_command_itself_ends_with_the_errors_code():
    done = hkbench("report", "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere is not a run directory")
    assert "Traceback" not in done.stderr


def test_debug_shows_where_an_error_comes_from():
    done = hkbench("--debug", "report", "nowhere")
    assert "Traceback" in done.stderr


def test_a_dry_run_prints_the_plan_and_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = hkbench("search", "--dry-run", "--trials", "3", "--epochs", "2", "--set", "defaults.image_size=48")
    assert done.returncode == 0
    plan = json.loads(done.stdout)
    assert plan["space"]["schedule"] | {"trials": 3, "max_epochs": 2} == plan["space"]["schedule"]
    assert plan["space"]["defaults"]["image_size"] == 48
    assert plan["out"] == "results/distill"
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = hkbench("data", "build", "goods69", "--size", "16", HKBENCH_CACHE=str(blocked / "cache"))
    assert done.returncode == 1
    assert "Not a directory" in done.stderr
    assert "Traceback" not in done.stderr
