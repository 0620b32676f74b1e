"""The commands of README and docs are ones that hkbench and make understand; those on the demo work."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from hkbench.cli.app import app, main
from hkbench.models.architecture import Architecture
from hkbench.models.build import build
from hkbench.shipping.timm_folder import write_timm_folder
from hkbench.spaces.file import load_space
from hkbench.store.records import ModelRecord

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "results" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def commands(program):
    """Return (page, words) of every line in a console block that begins with `program`."""
    found = []
    for page in PAGES:
        for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
            if language == "console":
                for line in block.splitlines():
                    words = shlex.split(line.removeprefix("$ "), comments=True)
                    if words and words[0] == program:
                        found.append((page.name, words[1:]))
    return found


@pytest.mark.parametrize(("page", "words"), commands("hkbench"))
def test_hkbench_commands_parse(page, words):
    group = typer.main.get_command(app)
    context = group.make_context("hkbench", list(words))
    name, command, rest = group.resolve_command(context, context._protected_args + context.args)
    if hasattr(command, "resolve_command"):
        inner = command.make_context(name, rest, parent=context)
        name, command, rest = command.resolve_command(inner, inner._protected_args + inner.args)
    assert command.make_context(name, rest, parent=context)


@pytest.mark.parametrize(("page", "words"), commands("make"))
def test_make_knows_its_targets(page, words):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(words) <= set(targets)


def test_the_space_in_the_docs_is_valid(tmp_path):
    page = (ROOT / "docs" / "spaces.md").read_text(encoding="utf-8")
    block = next(text for language, text in BLOCK.findall(page) if language == "yaml")
    path = tmp_path / "mine.yaml"
    path.write_text(block, encoding="utf-8")
    assert load_space(str(path)).name == yaml.safe_load(block)["name"]


def test_timm_opens_a_bundle_as_the_docs_say(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    (block,) = [text for language, text in BLOCK.findall(page) if language == "python"]
    architecture = Architecture(model="household_s", image_size=64)
    network = build(architecture, classes=3, seed=0)
    record = ModelRecord(
        id="trial-000",
        role="student",
        model=architecture.label,
        image_size=64,
        architecture=architecture.resolved().model_dump(exclude_none=True),
        parameters=1,
        sha256="",
        size_bytes=1,
    )
    write_timm_folder(tmp_path / "goods", network, record, ("cup", "lamp", "towel"))
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(block, names)
    assert names["network"].num_classes == 3


@pytest.fixture
def demo(tmp_path):
    """Copy the demo's run, so that a test can write into it."""
    return Path(shutil.copytree(ROOT / "results" / "demo", tmp_path / "demo"))


def test_report_works_on_the_demos_run(demo, monkeypatch, capsys):
    (demo / "report.html").unlink()
    monkeypatch.setattr(sys, "argv", ["hkbench", "report", str(demo)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert (demo / "report.html").stat().st_size > 100_000


def test_benchmark_works_on_the_demos_run(demo):
    hkbench = Path(sys.executable).parent / "hkbench"
    done = subprocess.run(
        [hkbench, "benchmark", demo, "--seconds", "0.2"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "teacher" in done.stdout


def test_links_of_the_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
