"""Size, latency and error of the exported models, side by side: the shorter the bar the better."""

import math
import shlex
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from hkbench.report.figures.chart import (
    GREY,
    ROLE_COLOURS,
    ROLE_WORDS,
    SPREAD_FOR_LOG,
    VERMILLION,
    Chart,
    Table,
    axis,
    figure_with,
    log_axis,
    plain,
    short,
)
from hkbench.report.latency import cpu_latency
from hkbench.report.load import LoadedRun, rows_of
from hkbench.report.units import BYTES_PER_MB, counted, megabytes, milliseconds, percent

TITLE = "Less is better"
ROW_PX = 46
PANEL_HEAD_PX = 92
WIDE_DOMAINS = ([0.0, 0.3], [0.35, 0.65], [0.7, 1.0])
ROOM_FOR_LABEL = 1.55
ORDER = {"student": 0, "no-teacher": 1, "teacher": 2}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One of the three measures: a value for each row, where its whisker begins and ends, and its words."""

    title: str
    values: list[float]
    ends: list[float]
    starts: list[float]
    texts: list[str]


def less_is_better(loaded: LoadedRun) -> Chart:
    """Draw one row for each model: students from the smallest up, those without a teacher, the teacher."""
    if loaded.models.empty:
        return Chart(
            title=TITLE,
            sentence="No model has been exported yet, so there is nothing to compare. A search exports its "
            "frontier, its no-teacher twin and its teacher when it ends: hkbench search … --resume.",
            figure=None,
            table=None,
        )
    rows = _ordered(loaded)
    panels = _panels(rows, loaded.part)
    labels = [_two_lines(row) for row in rows_of(rows)]
    return Chart(
        title=TITLE,
        sentence=_sentence(loaded, rows),
        figure=_figure(panels, rows, labels),
        table=_table(rows, loaded.part),
        narrow=_narrow(len(rows)),
    )


def _ordered(loaded: LoadedRun) -> pd.DataFrame:
    """Join models and latency in the one order that all panels share."""
    latency = cpu_latency(loaded)
    rows = loaded.models.join(latency.rows[["p50_ms", "p90_ms", "status", "reason"]], on="id")
    rows = rows.assign(place=rows["role"].map(ORDER)).sort_values(["place", "size_bytes", "id"])
    rows = rows.reset_index(drop=True)
    return rows.assign(label=[_label(row) for row in rows_of(rows)])


def _label(row: dict[str, Any]) -> str:
    return f"{_role(row)}: {row['model']}"


def _role(row: dict[str, Any]) -> str:
    """Return what a file is and of which trial: "student #3", "twin of #3, no teacher", "teacher"."""
    role = ROLE_WORDS[row["role"]]
    if not math.isnan(row["twin_of"]):
        return f"twin of #{row['twin_of']:.0f}, {role}"
    return role if math.isnan(row["trial"]) else f"{role} #{row['trial']:.0f}"


def _two_lines(row: dict[str, Any]) -> str:
    role, model = row["label"].split(": ", 1)
    return f"{plain(short(model))}<br><b>{role}</b>"


def _panels(rows: pd.DataFrame, part: str) -> list[Panel]:
    sizes = (rows["size_bytes"] / BYTES_PER_MB).tolist()
    errors = [(100 * rows[name]).tolist() for name in ("error", "error_low", "error_high")]
    p50, p90 = rows["p50_ms"].tolist(), rows["p90_ms"].fillna(rows["p50_ms"]).tolist()
    latencies = [
        "failed" if status == "failed" else milliseconds(value) if pd.notna(value) else "not measured"
        for value, status in zip(p50, rows["status"], strict=True)
    ]
    return [
        Panel(
            title="Size, MB",
            values=sizes,
            starts=sizes,
            ends=sizes,
            texts=[megabytes(size) for size in rows["size_bytes"]],
        ),
        Panel(
            title="Latency, ms",
            values=p50,
            starts=p50,
            ends=p90,
            texts=latencies,
        ),
        Panel(
            title=f"Error ({part}), %",
            values=errors[0],
            starts=errors[1],
            ends=errors[2],
            texts=[percent(error) if pd.notna(error) else "not measured" for error in rows["error"]],
        ),
    ]


def _figure(panels: list[Panel], rows: pd.DataFrame, labels: list[str]) -> go.Figure:
    colours = [ROLE_COLOURS[role] for role in rows["role"]]
    traces: list[Any] = []
    layout: dict[str, Any] = {"annotations": [], "shapes": []}
    for number, panel in enumerate(panels, start=1):
        suffix = "" if number == 1 else str(number)
        on_log = _spread(panel.values) > SPREAD_FOR_LOG
        own = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
        traces += [trace.update(own) for trace in _traces(panel, colours, on_log=on_log)]
        layout[f"xaxis{suffix}"] = _value_axis(panel, suffix, on_log=on_log)
        layout[f"yaxis{suffix}"] = {
            "range": [len(labels) - 0.5, -0.5],
            "tickvals": list(range(len(labels))),
            "ticktext": labels,
            "ticklabelstandoff": 6,
            "anchor": f"x{suffix}",
            "automargin": True,
            "showticklabels": number == 1,
            "showgrid": False,
            "zeroline": False,
        }
        layout["annotations"].append(_heading(panel.title, suffix))
        layout["shapes"] += _teacher_lines(panel, rows, suffix)
    height = PANEL_HEAD_PX + ROW_PX * len(labels)
    margin = {"l": 8, "r": 12, "t": 40, "b": 8}
    return figure_with(traces, height=height, margin=margin, bargap=0.38, **layout)


def _traces(panel: Panel, colours: list[str], *, on_log: bool) -> list[Any]:
    places = list(range(len(panel.values)))
    shown: Any
    if on_log:
        marker = {"color": colours, "size": 12}
        shown = go.Scatter(x=panel.values, y=places, mode="markers", marker=marker)
    else:
        shown = go.Bar(x=panel.values, y=places, orientation="h", marker={"color": colours})
    shown.update(hovertext=panel.texts, hoverinfo="text")
    if panel.ends != panel.values:
        shown.update(error_x=_whiskers(panel))
    # A missing value has its words where the bar would begin.
    start = min(_known(panel.values), default=1.0) if on_log else 0.0
    text_at = [start if math.isnan(end) else end for end in panel.ends]
    texts = go.Scatter(
        x=text_at,
        y=places,
        mode="text",
        text=[f"  {text}" for text in panel.texts],
        textposition="middle right",
        cliponaxis=False,
        hoverinfo="skip",
    )
    return [shown, texts]


def _whiskers(panel: Panel) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [end - value for end, value in zip(panel.ends, panel.values, strict=True)],
        "arrayminus": [value - start for start, value in zip(panel.starts, panel.values, strict=True)],
        "color": GREY,
        "thickness": 1.6,
        "width": 5,
    }


def _value_axis(panel: Panel, suffix: str, *, on_log: bool) -> dict[str, Any]:
    number = int(suffix or 1)
    shared = {"anchor": f"y{suffix}", "domain": WIDE_DOMAINS[number - 1]}
    if on_log:
        built = log_axis("← less is better (log axis)", _known(panel.values), **shared)
        low, high = built["range"]
        return built | {"range": [low, high + (high - low) * (ROOM_FOR_LABEL - 1)]}
    top = max(_known(panel.ends), default=1.0) or 1.0
    return axis("← less is better", range=[0, top * ROOM_FOR_LABEL], nticks=5, **shared)


def _heading(title: str, suffix: str) -> dict[str, Any]:
    return {
        "text": f"<b>{title}</b>",
        "xref": f"x{suffix} domain",
        "yref": f"y{suffix} domain",
        "x": 0,
        "y": 1,
        "xanchor": "left",
        "yanchor": "bottom",
        "yshift": 6,
        "showarrow": False,
    }


def _teacher_lines(panel: Panel, rows: pd.DataFrame, suffix: str) -> list[dict[str, Any]]:
    values = [value for value, role in zip(panel.values, rows["role"], strict=True) if role == "teacher"]
    return [
        {
            "type": "line",
            "xref": f"x{suffix}",
            "yref": f"y{suffix} domain",
            "x0": value,
            "x1": value,
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "line": {"color": VERMILLION, "width": 1.5, "dash": "dot"},
        }
        for value in _known(values)
    ]


def _narrow(rows: int) -> dict[str, Any]:
    """Lay the three panels below each other, each with its own row labels."""
    height = 3 * (PANEL_HEAD_PX + ROW_PX * rows)
    head = 92 / height
    panel = (1 - 2 * head) / 3
    layout: dict[str, Any] = {"height": height, "font": {"size": 12}}
    for number, suffix in enumerate(("", "2", "3")):
        top = 1 - number * (panel + head)
        layout[f"xaxis{suffix}"] = {"domain": [0, 1]}
        layout[f"yaxis{suffix}"] = {"domain": [max(0.0, top - panel), top], "showticklabels": True}
    return layout


def _sentence(loaded: LoadedRun, rows: pd.DataFrame) -> str:
    latency = cpu_latency(loaded)
    said = [
        f"{counted(len(rows), 'exported file')}; size, latency and error of a row belong to one file.",
        f"Latency: p50 with a tick at p90; {latency.setting}.",
    ]
    if rows["p50_ms"].isna().all():
        command = shlex.join(["hkbench", "benchmark", loaded.path])
        said[1] = f"No latency has been measured: {command}."
    if rows["error"].notna().any():
        pictures = counted(int(rows["pictures"].max()), "picture")
        said.append(f"Error: {pictures} of the {loaded.part} part, 95 % interval.")
    if (rows["role"] == "teacher").any():
        said.append("The dotted line is the teacher.")
    return " ".join(said)


def _table(rows: pd.DataFrame, part: str) -> Table:
    columns = ["model", "id", "size", "p50", "p90", f"error ({part})", "95 % interval", "pictures", "reason"]
    return Table(
        columns=columns,
        rows=[
            [
                row["label"],
                row["id"],
                megabytes(row["size_bytes"]),
                milliseconds(row["p50_ms"]),
                milliseconds(row["p90_ms"]),
                percent(row["error"]),
                f"{percent(row['error_low'])} to {percent(row['error_high'])}",
                "–" if math.isnan(row["pictures"]) else f"{row['pictures']:.0f}",
                row["reason"] if isinstance(row["reason"], str) else "",
            ]
            for row in rows_of(rows)
        ],
        numeric=frozenset(columns[2:8]),
    )


def _known(values: list[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _spread(values: list[float]) -> float:
    """Return largest over smallest; 1 where a value is 0 or nothing is known, which no log axis can show."""
    known = _known(values)
    return max(known) / min(known) if known and min(known) > 0 else 1.0
