"""`hkbench report`: write the page of a run."""

from pathlib import Path
from typing import Annotated

import typer

from hkbench.cli.console import out, print_json
from hkbench.report.page import build_report
from hkbench.store.rundir import RunDirectory


def report(
    run: Annotated[Path, typer.Argument(help="A run directory that 'hkbench search' has made.")],
    out_file: Annotated[
        Path | None, typer.Option("--out", help="The file to write; report.html in the run by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write one offline HTML page: less-is-better bars, frontier, learning curves, map of T × α.

    Example: hkbench report results/demo
    """
    path = build_report(RunDirectory.open(run), out_file)
    if as_json:
        print_json({"run": str(run), "report": str(path), "size_bytes": path.stat().st_size})
    else:
        out.print(f"Report: {path}", markup=False)
