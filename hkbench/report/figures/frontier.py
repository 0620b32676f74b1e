"""Every trial by size and validation error; the ones that no other beats are coloured by latency."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from hkbench.analysis.frontier import non_dominated
from hkbench.report.figures.chart import (
    BLUE,
    GREY,
    VERMILLION,
    Chart,
    Table,
    axis,
    colour_bar,
    figure_with,
    log_axis,
    plain,
    trial_label,
)
from hkbench.report.load import LoadedRun, rows_of
from hkbench.report.units import BYTES_PER_MB, counted, megabytes, milliseconds, percent

TITLE = "The frontier: size against error"


def frontier(loaded: LoadedRun) -> Chart | None:
    """Draw the trials, the frontier of the two axes as steps, and the teacher as a diamond.

    A search whose objectives say nothing of size has no such map.
    """
    if not loaded.trials.empty and "artifact_bytes" not in loaded.run.objectives:
        return None
    known = loaded.trials.dropna(subset=["error", "artifact_bytes"])
    known = known[known["artifact_bytes"] > 0]
    if known.empty:
        return Chart(
            title=TITLE,
            sentence="No trial has both a size and an error yet. Train some: hkbench search.",
            figure=None,
            table=None,
        )
    best = known[known["frontier"]].sort_values("artifact_bytes")
    return Chart(
        title=TITLE,
        sentence=_sentence(loaded, known, best),
        figure=_figure(known, best, _teachers(loaded)),
        table=_table(best),
        narrow={
            "height": 520,
            "coloraxis": {
                "colorbar": {
                    "orientation": "h",
                    "x": 0.5,
                    "xanchor": "center",
                    "y": -0.3,
                    "yanchor": "top",
                    "len": 0.9,
                }
            },
            "legend": {"y": 1.02, "yanchor": "bottom"},
        },
    )


def _sentence(loaded: LoadedRun, known: pd.DataFrame, best: pd.DataFrame) -> str:
    names = {"accuracy": "error", "artifact_bytes": "size", "latency_ms": "latency"}
    objectives = ", ".join(names.get(name, name) for name in loaded.run.objectives)
    lost = len(loaded.trials) - len(known)
    said = (
        f"{len(best)} of {counted(len(known), 'trial')} are on the frontier: no other completed trial beats "
        f"them in every objective ({objectives}). The line joins those that are best in the two axes alone."
    )
    return said + (f" {counted(lost, 'trial')} without a size or an error not shown." if lost else "")


def _teachers(loaded: LoadedRun) -> pd.DataFrame:
    teachers = loaded.models[loaded.models["role"] == "teacher"]
    return teachers.dropna(subset=["validation_error", "size_bytes"])


def _figure(known: pd.DataFrame, best: pd.DataFrame, teachers: pd.DataFrame) -> go.Figure:
    done = known["state"] == "COMPLETE"
    traces = [
        _points(
            known[~done],
            "stopped early",
            {"symbol": "x-thin", "size": 7, "line": {"width": 1.5, "color": GREY}},
        ),
        _points(
            known[done & ~known["frontier"]],
            "beaten or infeasible",
            {"color": GREY, "size": 8, "opacity": 0.6},
        ),
        _steps(best),
        _points(best, "frontier", _frontier_marker(best)),
        _teacher_points(teachers),
    ]
    sizes = [*(known["artifact_bytes"] / BYTES_PER_MB), *(teachers["size_bytes"] / BYTES_PER_MB)]
    errors = [*(100 * known["error"]), *(100 * teachers["validation_error"])]
    return figure_with(
        [trace for trace in traces if trace is not None],
        height=440,
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        xaxis=log_axis("size of the file, MB ← less is better (log axis)", sizes),
        yaxis=axis("validation error, % ← less is better", range=_padded(errors)),
        coloraxis=colour_bar("latency, ms"),
    )


def _padded(errors: list[float]) -> list[float]:
    low, high = min(errors), max(errors)
    room = max(1.0, 0.08 * (high - low))
    return [max(0.0, low - room) if low - room > 0 else -0.02 * high, high + room]


def _points(rows: pd.DataFrame, name: str, marker: dict[str, Any]) -> Any | None:
    if rows.empty:
        return None
    return go.Scatter(
        x=(rows["artifact_bytes"] / BYTES_PER_MB).tolist(),
        y=(100 * rows["error"]).tolist(),
        mode="markers",
        name=name,
        marker=marker,
        hoverinfo="text",
        hovertext=[_hover(row) for row in rows_of(rows)],
    )


def _hover(row: dict[str, Any]) -> str:
    lines = [
        plain(trial_label(row["number"], row["model"])),
        f"{percent(row['error'])} error, {megabytes(row['artifact_bytes'])}",
        f"latency {milliseconds(row['latency_ms'])}",
        f"{counted(row['epochs'], 'epoch')}, {row['state'].lower()}",
    ]
    return "<br>".join(lines)


def _frontier_marker(best: pd.DataFrame) -> dict[str, Any]:
    latency = best["latency_ms"]
    shared = {"size": 13, "line": {"width": 1.5, "color": GREY}}
    if latency.isna().any():
        return shared | {"color": BLUE}
    return shared | {"color": latency.tolist(), "coloraxis": "coloraxis"}


def _steps(best: pd.DataFrame) -> Any | None:
    """Join the trials that are best in the two axes: right, then down, for each size reached."""
    if best.empty:
        return None
    values = best[["artifact_bytes", "error"]].to_numpy(dtype=np.float64)
    corners = best[non_dominated(values)]
    return go.Scatter(
        x=(corners["artifact_bytes"] / BYTES_PER_MB).tolist(),
        y=(100 * corners["error"]).tolist(),
        mode="lines",
        name="best in the two axes",
        line={"shape": "hv", "color": BLUE, "width": 1.5},
        hoverinfo="skip",
    )


def _teacher_points(teachers: pd.DataFrame) -> Any | None:
    if teachers.empty:
        return None
    return go.Scatter(
        x=(teachers["size_bytes"] / BYTES_PER_MB).tolist(),
        y=(100 * teachers["validation_error"]).tolist(),
        mode="markers",
        name="teacher",
        marker={"symbol": "diamond", "size": 12, "color": VERMILLION},
        hoverinfo="text",
        hovertext=[f"teacher<br>{plain(model)}" for model in teachers["model"]],
    )


def _table(best: pd.DataFrame) -> Table:
    columns = ["trial", "model", "size", "validation error", "latency"]
    return Table(
        columns=columns,
        rows=[
            [
                f"#{row['number']}",
                row["model"],
                megabytes(row["artifact_bytes"]),
                percent(row["error"]),
                milliseconds(row["latency_ms"]),
            ]
            for row in rows_of(best)
        ],
        numeric=frozenset(columns[2:]),
    )
