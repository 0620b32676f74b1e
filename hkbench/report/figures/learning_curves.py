"""Validation accuracy epoch by epoch: the ten best trials and the teacher in colour, the rest grey."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from hkbench.report.figures.chart import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Chart,
    Table,
    axis,
    figure_with,
    plain,
    short,
    trial_label,
)
from hkbench.report.load import LoadedRun
from hkbench.report.units import counted, percent

TITLE = "Learning curves"
SHOWN = 10
COLOURS = [BLUE, ORANGE, GREEN, PURPLE, SKY]
DASHES = ["solid", "dash"]


def learning_curves(loaded: LoadedRun) -> Chart:
    """Draw one line a trial; the best are those with the highest accuracy at their last epoch."""
    known = loaded.epochs.dropna(subset=["accuracy"]).sort_values(["trial", "epoch"])
    if known.empty:
        return Chart(
            title=TITLE,
            sentence="No epoch has been recorded yet. Train some trials: hkbench search.",
            figure=None,
            table=None,
        )
    last = known.groupby("trial", sort=False).tail(1).set_index("trial")["accuracy"]
    ranked = last.drop("teacher", errors="ignore").sort_values(ascending=False, kind="stable")
    best = ranked.index[:SHOWN].tolist()
    names = _names(loaded)
    return Chart(
        title=TITLE,
        sentence=_sentence(len(ranked), len(best), "teacher" in last.index),
        figure=_figure(known, best, names),
        table=_table(known, best, names),
        narrow={
            "height": 380 + 22 * (len(best) + 2),
            "legend": {"orientation": "h", "x": 0, "y": -0.16, "yanchor": "top"},
        },
    )


def _names(loaded: LoadedRun) -> dict[str, str]:
    trials = loaded.trials
    return {
        str(number): trial_label(number, model)
        for number, model in zip(trials["number"], trials["model"], strict=True)
    }


def _sentence(trials: int, best: int, has_teacher: bool) -> str:
    rest = trials - best
    said = [
        f"Validation accuracy after each epoch, more is better: the best {counted(best, 'trial')} in colour"
    ]
    if has_teacher:
        said.append("the teacher as the thick line")
    if rest:
        said.append(f"the other {rest} in grey")
    return ", ".join(said) + "."


def _figure(known: pd.DataFrame, best: list[str], names: dict[str, str]) -> go.Figure:
    curves = {str(trial): rows for trial, rows in known.groupby("trial", sort=False)}
    rest = [trial for trial in curves if trial not in best and trial != "teacher"]
    traces = [_curve(curves[trial], names.get(trial, f"#{trial}"), _grey()) for trial in rest]
    for place, trial in enumerate(best):
        line = {"color": COLOURS[place % len(COLOURS)], "dash": DASHES[place // len(COLOURS)], "width": 2}
        traces.append(_curve(curves[trial], names.get(trial, f"#{trial}"), line))
    if "teacher" in curves:
        traces.append(_curve(curves["teacher"], "teacher", {"color": VERMILLION, "width": 3.5}))
    for trace in traces[: len(rest)]:
        trace.showlegend = False
    epochs = int(known["epoch"].max())
    return figure_with(
        traces,
        height=420,
        showlegend=True,
        legend={"x": 1.02, "y": 1, "yanchor": "top"},
        xaxis=axis("epoch", tickformat="d", **({"dtick": 1} if epochs <= 12 else {"nticks": 10})),
        yaxis=axis("validation accuracy, % (more is better)", rangemode="tozero"),
    )


def _grey() -> dict[str, Any]:
    return {"color": "rgba(138,144,153,0.4)", "width": 1.2}


def _curve(rows: pd.DataFrame, name: str, line: dict[str, Any]) -> Any:
    return go.Scatter(
        x=rows["epoch"].tolist(),
        y=(100 * rows["accuracy"]).tolist(),
        mode="lines+markers",
        marker={"size": 5},
        line=line,
        name=plain(short(name)),
        hoverinfo="text",
        hovertext=[
            f"{plain(name)}<br>epoch {epoch}: {percent(accuracy)}"
            for epoch, accuracy in zip(rows["epoch"], rows["accuracy"], strict=True)
        ],
    )


def _table(known: pd.DataFrame, best: list[str], names: dict[str, str]) -> Table:
    shown = [*best, *(["teacher"] if (known["trial"] == "teacher").any() else [])]
    epochs = sorted(known["epoch"].unique().tolist())
    accuracy = known.set_index(["trial", "epoch"])["accuracy"].to_dict()
    columns = ["trial", *(f"epoch {epoch}" for epoch in epochs)]
    return Table(
        columns=columns,
        rows=[
            [names.get(trial, trial), *(percent(accuracy.get((trial, epoch))) for epoch in epochs)]
            for trial in shown
        ],
        numeric=frozenset(columns[1:]),
    )
