"""Which temperature and which weight of the hard labels go with a low error: a map of T × α."""

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from hkbench.report.figures.chart import Chart, Table, axis, colour_bar, figure_with
from hkbench.report.load import LoadedRun, rows_of
from hkbench.report.units import counted, percent

TITLE = "Temperature and weight of the hard labels"
ALPHA_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def temperature_alpha(loaded: LoadedRun) -> Chart | None:
    """Draw the median validation error of the completed trials with the loss kd in each cell that has any.

    A run that distils nothing, or one network alone, has no such map.
    """
    trials = loaded.trials
    if loaded.run.kind == "train" or (not trials.empty and not (trials["weight_soft"] > 0).any()):
        return None
    completed = trials.query("state == 'COMPLETE'").dropna(subset=["error"])
    distilled = completed[(completed["loss"] == "kd") & (completed["weight_soft"] > 0)]
    alone = _without_teacher(loaded, completed)
    if distilled.empty:
        return Chart(
            title=TITLE,
            sentence=f"No distilled trial has completed, so there is no map of T × α. {alone} A space that "
            "searches temperature and alpha brings it: hkbench search --space distill.",
            figure=None,
            table=None,
        )
    edges = _temperature_edges(distilled["temperature"])
    cells = _cells(distilled, edges)
    return Chart(
        title=TITLE,
        sentence=f"Median validation error of {counted(len(distilled), 'completed trial')} with the loss kd, "
        "n in each cell; "
        "less is better; an empty cell has not been tried. α weighs the true labels, 1 − α the teacher. "
        f"{alone}",
        figure=_figure(cells, edges),
        table=_table(cells),
        narrow={"height": 430, "font": {"size": 11}, "coloraxis": {"showscale": False}},
    )


def _without_teacher(loaded: LoadedRun, completed: pd.DataFrame) -> str:
    """Return the no-teacher error as a sentence: a student's twin's, else the best completed trial's."""
    twins = loaded.models.dropna(subset=["twin_of", "validation_error"])
    if not twins.empty:
        twin = rows_of(twins)[0]
        whose = f"the twin of #{twin['twin_of']:.0f}, {twin['model']}"
        return f"Without a teacher ({whose}): {percent(twin['validation_error'])}."
    hard = completed[completed["weight_soft"] == 0]
    if hard.empty:
        return "No trial without a teacher has completed, so a gain can't be told."
    best = hard.sort_values("error").iloc[0]
    return f"Without a teacher (trial #{best['number']}, {best['model']}): {percent(best['error'])}."


def _temperature_edges(temperatures: "pd.Series[float]") -> list[float]:
    """Return bin edges, half an octave apart, from below the lowest temperature to above the highest."""
    low = math.floor(2 * math.log2(temperatures.min()))
    high = math.floor(2 * math.log2(temperatures.max())) + 1
    return [2 ** (step / 2) for step in range(low, high + 1)]


def _cells(distilled: pd.DataFrame, edges: list[float]) -> pd.DataFrame:
    """Group the trials by cell: columns column (of T), row (of α), error (median), n."""
    last = len(ALPHA_EDGES) - 2
    return (
        distilled.assign(
            column=np.digitize(distilled["temperature"], edges) - 1,
            row=np.minimum(np.digitize(distilled["weight_hard"], ALPHA_EDGES) - 1, last),
        )
        .groupby(["row", "column"], as_index=False)
        .agg(error=("error", "median"), n=("error", "size"))
        .assign(
            temperature=lambda cells: [_span(edges, column) for column in cells["column"]],
            alpha=lambda cells: [_span(ALPHA_EDGES, row) for row in cells["row"]],
        )
    )


def _span(edges: tuple[float, ...] | list[float], place: int) -> str:
    return f"{edges[place]:.2g}–{edges[place + 1]:.2g}"


def _figure(cells: pd.DataFrame, edges: list[float]) -> go.Figure:
    rows, columns = len(ALPHA_EDGES) - 1, len(edges) - 1
    errors: list[list[float | None]] = [[None] * columns for _ in range(rows)]
    texts = [[""] * columns for _ in range(rows)]
    for row, column, error, n in cells[["row", "column", "error", "n"]].itertuples(index=False):
        errors[row][column] = 100 * error
        texts[row][column] = f"{percent(error)}<br>n = {n}"
    heat = go.Heatmap(
        z=errors,
        x=[_span(edges, column) for column in range(columns)],
        y=[_span(ALPHA_EDGES, row) for row in range(rows)],
        text=texts,
        texttemplate="%{text}",
        hoverinfo="text",
        hoverongaps=False,
        coloraxis="coloraxis",
        xgap=2,
        ygap=2,
    )
    return figure_with(
        [heat],
        height=400,
        plot_bgcolor="rgba(138,144,153,0.12)",
        # type "category": plotly would read "1–2" as text, but a single "0.2" as a number.
        xaxis=axis("temperature T (log-spaced bins)", type="category", showgrid=False),
        yaxis=axis("α, weight of the true labels", type="category", showgrid=False),
        coloraxis=colour_bar("median error, %"),
    )


def _table(cells: pd.DataFrame) -> Table:
    return Table(
        columns=["temperature T", "α", "median validation error", "n"],
        rows=[
            [row["temperature"], row["alpha"], percent(row["error"]), str(row["n"])] for row in rows_of(cells)
        ],
        numeric=frozenset({"median validation error", "n"}),
    )
