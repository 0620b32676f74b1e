import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from synthetic_run import MakeRun, model_record, run_record, trial_record, write_run
from typer.testing import CliRunner

from hkbench.cli.app import app
from hkbench.report.page import build_report
from hkbench.store.rundir import RunDirectory

HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>"
UNUSUAL = "Мережа «Їжак» 🛒 & sons"
GOLDEN = Path(__file__).parent / "outline.txt"


class Outline(HTMLParser):
    """Collects the tags that make the page's outline, and every attribute that could load something."""

    SHOWN = ("section", "h1", "h2", "figure", "figcaption", "details", "table", "dl", "pre", "footer")

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.handlers: list[str] = []
        self._inside = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        self.loads += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")
        ]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag in self.SHOWN:
            name = given.get("id") or given.get("class")
            self.lines.append("  " * self._inside + tag + (f" {name}" if name else ""))
        if tag in ("section", "figure", "details"):
            self._inside += 1

    def handle_endtag(self, tag: str) -> None:
        if tag in ("section", "figure", "details"):
            self._inside -= 1


def outline(page: Path) -> Outline:
    found = Outline()
    found.feed(page.read_text(encoding="utf-8"))
    return found


def test_the_outline_of_the_page(finished_run: RunDirectory, tmp_path: Path) -> None:
    # Renew with: HKBENCH_RENEW=1 python -m pytest tests/report -k outline
    found = "\n".join(outline(build_report(finished_run, tmp_path / "report.html")).lines) + "\n"
    if os.environ.get("HKBENCH_RENEW"):
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()


def test_it_lies_in_the_run_and_is_small_enough_to_send(make_run: MakeRun) -> None:
    run = make_run()
    page = build_report(run)
    assert page == run.path / "report.html"
    assert page.stat().st_size < 1_500_000


def test_nothing_on_the_page_asks_the_network(finished_run: RunDirectory, tmp_path: Path) -> None:
    page = build_report(finished_run, tmp_path / "report.html")
    found = outline(page)
    assert found.loads == ["#charts"]
    assert not found.tags & {"link", "img", "iframe", "object", "embed", "base"}
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page.read_text())
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert re.search(r"script-src( 'sha256-[^']+'){2};", policy[1].replace("&#39;", "'"))


def test_commands_name_the_run_as_it_was_given_and_no_path_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = build_report(write_run(Path("my runs/demo"))).read_text()
    assert "hkbench benchmark &#39;my runs/demo&#39;\nhkbench report &#39;my runs/demo&#39;\n" in page
    assert str(tmp_path) not in page


def test_rejected_pictures_are_counted_and_listed(make_run: MakeRun) -> None:
    run = make_run()
    assert "0 pictures rejected" in build_report(run).read_text()
    assert "rejected picture</th>" not in build_report(run).read_text()
    record = run.read_run()
    assert record.data is not None
    bad = [("lamp/torn.png", "image file is truncated"), ("cup/<b>.jpg", "no picture")]
    run.write_run(record.model_copy(update={"data": record.data.model_copy(update={"rejected": bad})}))
    page = build_report(run).read_text()
    assert "2 pictures rejected" in page
    assert "<td>lamp/torn.png</td>\n<td>image file is truncated</td>" in page
    assert "<td>cup/&lt;b&gt;.jpg</td>" in page


@pytest.mark.parametrize("name", [HOSTILE, UNUSUAL])
def test_names_are_text_wherever_they_stand(tmp_path: Path, name: str) -> None:
    run = RunDirectory(tmp_path / "run")
    run.write_run(run_record("run", warnings=[name], command=["hkbench", "search", name]))
    generator = np.random.default_rng(0)
    for number in range(3):
        run.append(trial_record(number, generator, model=name, state="COMPLETE", reason=name))
    run.write_model(model_record("m", "student", [], model=name, size_bytes=10, trial=0))
    page = build_report(run)
    found = outline(page)
    assert found.handlers == []
    text = page.read_text(encoding="utf-8")
    assert text.count("<script") == 3
    assert "<img" not in text
    drawings = re.search(r'id="drawings">(.*?)</script>', text, re.DOTALL)
    assert drawings is not None
    shown = json.loads(drawings[1])
    # Plotly reads tags in labels, so there a name is escaped once more.
    assert all("<img" not in json.dumps(drawing) for drawing in shown.values())
    assert ("&lt;script" in text) == (name == HOSTILE)
    assert (UNUSUAL.split(" &")[0] in text) == (name == UNUSUAL)


@pytest.mark.parametrize("trials", [0, 1])
def test_few_trials_make_a_page(tmp_path: Path, trials: int) -> None:
    run = RunDirectory(tmp_path / "run")
    run.write_run(run_record("run"))
    for number in range(trials):
        run.append(trial_record(number, np.random.default_rng(0)))
    text = build_report(run).read_text()
    assert f"{trials} trial" in text
    assert "No network has been exported yet." in text


def test_a_run_whose_trials_all_failed_shows_their_reasons(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.write_run(run_record("run", status="failed"))
    for number in range(3):
        run.append(trial_record(
            number, np.random.default_rng(0), state="FAIL", reason="out of memory: 9 GB asked for",
            values={"accuracy": None, "artifact_bytes": None, "latency_ms": None}, epochs=0,
        ))  # fmt: skip
    text = build_report(run).read_text()
    assert text.count("out of memory: 9 GB asked for") == 3
    assert "0 complete, 0 pruned, 3 failed" in text
    assert "This run has failed" in text


def test_models_without_metrics_have_dashes(make_run: MakeRun) -> None:
    run = make_run()
    for model in run.model_records():
        run.write_model(model.model_copy(update={"parts": []}))
    run.predictions.unlink()
    assert "error that was not measured on the same part" in build_report(run).read_text()


def test_a_record_without_data_objectives_or_git_makes_a_page(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.write_run(run_record("run", objectives={}, git=None, phase_seconds={}, hardware={}).model_copy(
        update={"data": None}
    ))  # fmt: skip
    run.append(trial_record(0, np.random.default_rng(0)))
    assert "published" not in [line.split()[-1] for line in outline(build_report(run)).lines]


def test_a_report_needs_neither_torch_nor_ray() -> None:
    code = "import sys, hkbench.report.page; print(sorted({'torch', 'ray', 'timm'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_says_where_the_page_is(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    said = CliRunner().invoke(app, ["report", str(run.path)])
    assert said.exit_code == 0
    assert said.stdout.strip() == f"Report: {run.path / 'report.html'}"
    elsewhere = tmp_path / "deep" / "page.html"
    said = CliRunner().invoke(app, ["report", str(run.path), "--out", str(elsewhere), "--json"])
    assert json.loads(said.stdout)["size_bytes"] == elsewhere.stat().st_size


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert "is not a run directory" in str(said.exception)
