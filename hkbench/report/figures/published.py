"""The figures of the study that goods69 stands in for, as they were published: other pictures, own axes."""

import plotly.graph_objects as go

from hkbench.analysis.study import STUDY
from hkbench.report.figures.chart import (
    BLUE,
    ORANGE,
    VERMILLION,
    Chart,
    Table,
    axis,
    figure_with,
    log_axis,
)
from hkbench.report.load import LoadedRun
from hkbench.report.units import BYTES_PER_MB, number

NAMES = [row.name for row in STUDY]
SIZES_MB = [row.size_bytes / BYTES_PER_MB if row.size_bytes else None for row in STUDY]
ERRORS = [round(100 * (1 - row.accuracy), 1) for row in STUDY]
COLOURS = [ORANGE, VERMILLION, BLUE]
HEIGHT_PX = 190
NARROW = {
    "height": 2 * HEIGHT_PX,
    "font": {"size": 12},
    "xaxis": {"domain": [0, 1]},
    "xaxis2": {"domain": [0, 1]},
    "yaxis": {"domain": [0.62, 1]},
    "yaxis2": {"domain": [0, 0.38], "showticklabels": True},
}


def published(loaded: LoadedRun) -> Chart | None:
    """Draw the study's sizes and errors beside each other, for runs on goods69 alone."""
    if loaded.run.data is None or loaded.run.data.name != "goods69":
        return None
    return Chart(
        title="The study, as published",
        sentence="As published, other pictures: the study that hkbench follows had photographs of household "
        "goods in 69 classes of its own. Its student was 98 times smaller than DenseNet and 0.6 points "
        "better. These figures can't be ranked with those above.",
        figure=_figure(),
        table=Table(
            columns=["model", "size, MB", "error, %"],
            rows=[
                [name, number(size), number(error)]
                for name, size, error in zip(NAMES, SIZES_MB, ERRORS, strict=True)
            ],
            numeric=frozenset({"size, MB", "error, %"}),
        ),
        narrow=NARROW,
    )


def _figure() -> go.Figure:
    known = [size for size in SIZES_MB if size]
    unknown = [name for name, size in zip(NAMES, SIZES_MB, strict=True) if not size]
    sizes = log_axis("size, MB ← less is better (log)", known, domain=[0.0, 0.46])
    sizes["range"] = [0.4, 3.6]
    rows = {"range": [len(NAMES) - 0.5, -0.5], "automargin": True, "showgrid": False, "ticklabelstandoff": 6}
    traces = [
        go.Scatter(
            x=SIZES_MB,
            y=NAMES,
            mode="markers+text",
            marker={"size": 12, "color": COLOURS},
            text=[f"  {size:g} MB" if size else "" for size in SIZES_MB],
            textposition="middle right",
            cliponaxis=False,
        ),
        go.Scatter(
            x=[10**0.5] * len(unknown),
            y=unknown,
            mode="text",
            text=["not published"] * len(unknown),
            textposition="middle right",
        ),
        go.Bar(
            x=ERRORS,
            y=NAMES,
            orientation="h",
            marker={"color": COLOURS},
            text=[f"{error} %" for error in ERRORS],
            textposition="outside",
            cliponaxis=False,
            xaxis="x2",
            yaxis="y2",
        ),
    ]
    return figure_with(
        traces,
        height=HEIGHT_PX,
        bargap=0.4,
        xaxis=sizes,
        xaxis2=axis("error, % ← less is better", domain=[0.54, 1.0], range=[0, 48], nticks=5, anchor="y2"),
        yaxis=rows,
        yaxis2=rows | {"anchor": "x2", "showticklabels": False},
    )
