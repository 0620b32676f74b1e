"""Choices that were tried with several seeds, ranked: how far each is behind, and whether that is shown."""

from typing import Any

import plotly.graph_objects as go

from hkbench.analysis.intervals import Interval
from hkbench.analysis.ranking import Ranked
from hkbench.report.figures.chart import BLUE, GREY, VERMILLION, Chart, Table, axis, figure_with, plain, short
from hkbench.report.load import LoadedRun
from hkbench.report.units import percent, points

COLOURS = {"first": BLUE, "worse": VERMILLION, "no difference shown": GREY}
ROW_PX = 28


def ranking(loaded: LoadedRun) -> Chart | None:
    """Draw the validation error of each choice with its interval; the table has every ranked parameter."""
    if not loaded.rankings:
        return None
    name, rows = max(loaded.rankings.items(), key=lambda item: len(item[1]))
    return Chart(
        title=f"Ranking: {name}",
        sentence=_sentence(name, rows),
        figure=_figure(rows),
        table=_table(loaded.rankings),
        narrow={"height": 120 + ROW_PX * len(rows)},
    )


def _sentence(name: str, rows: list[Ranked]) -> str:
    equal = [row.choice for row in rows if row.verdict == "no difference shown"]
    seeds = min(row.seeds for row in rows)
    said = (
        f"The {name} with the least mean validation error is {rows[0].choice}, of {len(rows)} with "
        f"{seeds} seeds and more."
    )
    if equal:
        return f"{said} No difference to it is shown for {', '.join(equal)} (grey)."
    return f"{said} All others are shown to be worse."


def _figure(rows: list[Ranked]) -> go.Figure:
    errors = [100 * (1 - row.accuracy.estimate) for row in rows]
    halves = [50 * (row.accuracy.high - row.accuracy.low) for row in rows]
    names = [plain(short(row.choice)) for row in rows]
    trace = go.Scatter(
        x=errors,
        y=names,
        mode="markers",
        marker={"size": 10, "color": [COLOURS[row.verdict] for row in rows]},
        error_x={"type": "data", "array": halves, "color": GREY, "thickness": 1.5},
        hoverinfo="text",
        hovertext=[
            f"{plain(row.choice)}: {percent(1 - row.accuracy.estimate)}, {row.verdict}" for row in rows
        ],
    )
    rows_axis: dict[str, Any] = {"autorange": "reversed", "automargin": True, "showgrid": False}
    return figure_with(
        [trace],
        height=110 + ROW_PX * len(rows),
        xaxis=axis("mean validation error, % ← less is better"),
        yaxis=rows_axis,
    )


def _table(rankings: dict[str, list[Ranked]]) -> Table:
    return Table(
        columns=["parameter", "choice", "seeds", "error", "95 % interval", "behind the first", "verdict"],
        rows=[_cells(name, row) for name, rows in rankings.items() for row in rows],
        numeric=frozenset({"seeds", "error", "95 % interval", "behind the first"}),
    )


def _cells(name: str, row: Ranked) -> list[str]:
    low, high = percent(1 - row.accuracy.high), percent(1 - row.accuracy.low)
    behind = "" if row.difference is None else _behind(row.difference)
    error = percent(1 - row.accuracy.estimate)
    return [name, row.choice, str(row.seeds), error, f"{low} to {high}", behind, row.verdict]


def _behind(difference: Interval) -> str:
    return f"{points(-difference.estimate)} ({points(-difference.high)} to {points(-difference.low)})"
