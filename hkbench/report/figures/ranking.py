"""Choices that were tried with several seeds, ranked: how far each is behind, and whether that is shown."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from hkbench.analysis.intervals import Interval
from hkbench.analysis.ranking import Ranked, Ranking
from hkbench.report.figures.chart import BLUE, GREY, VERMILLION, Chart, Table, axis, figure_with, plain, short
from hkbench.report.load import LoadedRun
from hkbench.report.units import percent, points

COLOURS = {"first": BLUE, "worse": VERMILLION, "no difference shown": GREY}
ROW_PX = 28


def ranking(loaded: LoadedRun) -> Chart | None:
    """Draw the validation error of each choice with its interval; the table has every ranked parameter."""
    if not loaded.rankings:
        return None
    longest = max(loaded.rankings, key=lambda each: len(each.rows))
    return Chart(
        title=f"Ranking: {longest.parameter}",
        sentence=_sentence(longest),
        figure=_figure(longest.rows),
        table=_table(loaded.rankings),
        narrow={"height": 120 + ROW_PX * len(longest.rows)},
    )


def _sentence(found: Ranking) -> str:
    rows = found.rows
    equal = [row.choice for row in rows if row.verdict == "no difference shown"]
    seeds = min(row.seeds for row in rows)
    said = [
        f"The {found.parameter} with the least mean validation error is {rows[0].choice}, of {len(rows)} "
        f"with {seeds} seeds and more.",
        f"No difference to it is shown for {', '.join(equal)} (grey)."
        if equal
        else "All others are shown to be worse.",
        "Tukey's test: among equal choices, one in 20 such rankings calls any of them worse.",
    ]
    if found.left_out:
        said.append(
            f"Left out, as fewer than two seeds of one setting ran to the end: {', '.join(found.left_out)}."
        )
    return " ".join(said)


def _figure(rows: Sequence[Ranked]) -> go.Figure:
    errors = [100 * (1 - row.accuracy.estimate) for row in rows]
    halves = [50 * (row.accuracy.high - row.accuracy.low) for row in rows]
    # Places, not names: two long names may be cut to the same, and plotly would read "10" as a number.
    places = list(range(len(rows)))
    trace = go.Scatter(
        x=errors,
        y=places,
        mode="markers",
        marker={"size": 10, "color": [COLOURS[row.verdict] for row in rows]},
        error_x={"type": "data", "array": halves, "color": GREY, "thickness": 1.5},
        hoverinfo="text",
        hovertext=[
            f"{plain(row.choice)}: {percent(1 - row.accuracy.estimate)}, {row.verdict}" for row in rows
        ],
    )
    rows_axis: dict[str, Any] = {
        "autorange": "reversed",
        "automargin": True,
        "showgrid": False,
        "zeroline": False,
        "tickvals": places,
        "ticktext": [plain(short(row.choice)) for row in rows],
    }
    return figure_with(
        [trace],
        height=110 + ROW_PX * len(rows),
        xaxis=axis("mean validation error, % ← less is better"),
        yaxis=rows_axis,
    )


def _table(rankings: Sequence[Ranking]) -> Table:
    return Table(
        columns=["parameter", "choice", "seeds", "error", "95 % interval", "behind the first", "verdict"],
        rows=[_cells(each.parameter, row) for each in rankings for row in each.rows],
        numeric=frozenset({"seeds", "error", "95 % interval", "behind the first"}),
    )


def _cells(name: str, row: Ranked) -> list[str]:
    low, high = percent(1 - row.accuracy.high), percent(1 - row.accuracy.low)
    behind = "" if row.difference is None else _behind(row.difference)
    error = percent(1 - row.accuracy.estimate)
    return [name, row.choice, str(row.seeds), error, f"{low} to {high}", behind, row.verdict]


def _behind(difference: Interval) -> str:
    return f"{points(-difference.estimate)} ({points(-difference.high)} to {points(-difference.low)})"
