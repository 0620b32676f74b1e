"""The tables that a search ends with."""

from rich.table import Table

from hkbench.analysis.study import STUDY
from hkbench.store.records import BenchmarkRecord, ModelRecord
from hkbench.store.rundir import RunDirectory

MEGA = 1e6


def final_table(run: RunDirectory) -> Table:
    """Return the exported models, most accurate first, with what was measured of the files themselves."""
    rows = {row.sha256: row for row in run.read(BenchmarkRecord) if (row.device, row.batch) == ("cpu", 1)}
    table = Table(title=f"{run.path.name}: the exported files", title_justify="left")
    for name in ("file", "network", "MB", "latency p50", "validation", "test"):
        table.add_column(name, justify="left" if name in ("file", "network") else "right", overflow="fold")
    models = sorted(run.model_records(), key=lambda model: -model.accuracy("validation"))
    for model in models:
        table.add_row(
            _file(model),
            f"{model.model} {model.image_size}px{_narrower(model)}",
            f"{model.size_bytes / MEGA:.2f}",
            _latency(rows.get(model.sha256)),
            f"{model.accuracy('validation'):.1%}",
            _accuracy(model, "test"),
        )
    return table


def _narrower(model: ModelRecord) -> str:
    return "" if model.precision == "fp32" else f" {model.precision}"


def _accuracy(model: ModelRecord, part: str) -> str:
    return "–" if model.part(part) is None else f"{model.accuracy(part):.1%}"


def _file(model: ModelRecord) -> str:
    if model.role == model.id:
        return model.id
    what = f"twin of trial-{model.twin_of:03d}, no teacher" if model.twin_of is not None else model.role
    return f"{model.id} ({what})"


def _latency(row: BenchmarkRecord | None) -> str:
    return "–" if row is None or row.p50_ms is None else f"{row.p50_ms:.2f} ms"


def confirmed_table(run: RunDirectory) -> Table | None:
    """Return what came of the confirmations, the best mean first; None where there are none."""
    from hkbench.runs.confirm import COLUMNS, confirmed, confirmed_rows

    found = confirmed(run.trials())
    if not found:
        return None
    table = Table(title="Trained again from fresh seeds", title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in COLUMNS[:2] else "right", overflow="fold")
    for row in confirmed_rows(found):
        table.add_row(*row)
    return table


def study_table() -> Table:
    """Return the study's own figures, as published: other pictures, so no ratio to ours."""
    table = Table(title="The study, as published (other pictures)", title_justify="left")
    for name in ("network", "MB", "accuracy"):
        table.add_column(name, justify="left" if name == "network" else "right")
    for row in STUDY:
        size = "–" if row.size_bytes is None else f"{row.size_bytes / MEGA:.1f}"
        table.add_row(row.name, size, f"{row.accuracy:.1%}")
    return table
