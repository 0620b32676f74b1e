"""The page: charts, tables and the code that draws them in one HTML file that asks nothing of a network."""

import base64
import gzip
import hashlib
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from hkbench.report.facts import chips, commands, environment, rejected_table, trials_table
from hkbench.report.figures import FIGURES
from hkbench.report.figures.chart import Chart
from hkbench.report.headline import cautions, headline
from hkbench.report.load import LoadedRun, load_run
from hkbench.report.quality import quality
from hkbench.store import atomic
from hkbench.store.rundir import RunDirectory

TEMPLATES = Environment(
    loader=PackageLoader("hkbench.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


def build_report(run: RunDirectory, out: Path | None = None) -> Path:
    """Write the report of `run` as one offline HTML file and return where it is.

    Args:
        run: what the report is made from, and nothing else.
        out: the file to write; `report.html` in the run directory unless named.

    Raises:
        UsageError: a record of the run is there and can't be read, or the disk is full.
    """
    path = out or run.path / "report.html"
    atomic.write_text(path, render(load_run(run)))
    return path


def render(loaded: LoadedRun) -> str:
    """Return the page's HTML."""
    built = {name: build(loaded) for name, build in FIGURES.items()}
    charts = {name: chart for name, chart in built.items() if chart is not None}
    loader = _source("page.js")
    plotly = _plotly()
    return TEMPLATES.get_template("page.html").render(
        run=loaded.run,
        created=f"{loaded.run.created[:16].replace('T', ' ')} UTC",
        headline=headline(loaded),
        cautions=cautions(loaded),
        chips=chips(loaded),
        charts=charts,
        heights={name: chart.figure.layout.height for name, chart in charts.items() if chart.figure},
        drawings=htmlsafe_json_dumps(
            {name: _drawing(chart) for name, chart in charts.items() if chart.figure}
        ),
        quality=quality(loaded),
        trials=trials_table(loaded),
        environment=environment(loaded),
        rejected=rejected_table(loaded),
        commands=commands(loaded),
        style=Markup(_source("page.css")),
        loader=Markup(loader),
        plotly=base64.b64encode(plotly).decode(),
        # Only these two scripts may run, whatever a name in the data holds.
        script_hashes=[_csp_hash(loader.encode()), _csp_hash(gzip.decompress(plotly))],
    )


def _drawing(chart: Chart) -> dict[str, Any]:
    """Return a figure as plotly.js takes it."""
    assert chart.figure is not None
    figure = json.loads(chart.figure.to_json())
    return {"data": figure["data"], "layout": figure["layout"], "narrow": chart.narrow}


def _source(name: str) -> str:
    return (files("hkbench.report") / "templates" / name).read_text(encoding="utf-8").strip()


@cache
def _plotly() -> bytes:
    """Return plotly.js as it is vendored: gzipped."""
    return (files("hkbench.report") / "vendor" / "plotly-cartesian.min.js.gz").read_bytes()


def _csp_hash(script: bytes) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}"
