"""What a chart is, and the look that all of them share."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

# Okabe & Ito's palette, told apart with every common colour vision, on white and on black.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY = "#CC79A7", "#56B4E9"
GREY = "#8a9099"
ROLE_COLOURS = {"student": BLUE, "no-teacher": ORANGE, "teacher": VERMILLION}
ROLE_WORDS = {"student": "student", "no-teacher": "no teacher", "teacher": "teacher"}
LABEL_LENGTH = 30
SPREAD_FOR_LOG = 50
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A chart's data as text; columns named in `numeric` are set flush right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One section of the page.

    `sentence` says what is to be seen, or what is missing and which command brings it; then `figure` is
    None. `narrow` is laid over the figure's layout on screens of a phone's width.
    """

    title: str
    sentence: str
    figure: go.Figure | None
    table: Table | None
    narrow: dict[str, Any] = field(default_factory=dict)


def figure_with(traces: Sequence[Any], **layout: Any) -> go.Figure:
    """Build a figure in the house look. Text and grid take their colours from the page's style sheet."""
    shared = {
        "template": go.layout.Template(),
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": GREY},
        "hoverlabel": {
            "bgcolor": "#22262b",
            "bordercolor": "#22262b",
            "font": {"family": FONT, "color": "#fff"},
        },
        "dragmode": False,
        "margin": {"l": 8, "r": 12, "t": 16, "b": 8},
        "showlegend": False,
    }
    return go.Figure(data=list(traces), layout=shared | layout)


def axis(title: str, **options: Any) -> dict[str, Any]:
    """Build an axis with its title, faint grid lines and room for its labels."""
    return {
        "tickangle": 0,
        "title": {"text": title, "standoff": 10, "font": {"size": 13}},
        "gridcolor": "rgba(138,144,153,0.25)",
        "zeroline": False,
        "automargin": True,
        "ticks": "",
    } | options


def colour_bar(title: str) -> dict[str, Any]:
    """Build a colour axis in Cividis with its title and a slim bar."""
    return {
        "colorscale": "Cividis",
        "colorbar": {"title": {"text": title, "font": {"size": 13}}, "thickness": 12, "outlinewidth": 0},
    }


def log_axis(title: str, values: Sequence[float], **options: Any) -> dict[str, Any]:
    """Build a logarithmic axis around positive `values`, with round labels."""
    low, high = math.log10(min(values)), math.log10(max(values))
    room = max(0.12, 0.08 * (high - low))
    ticks = [
        digit * 10.0**power
        for power in range(math.floor(low) - 1, math.ceil(high) + 1)
        for digit in _digits(high - low)
        if low - room <= math.log10(digit) + power <= high + room
    ]
    labels = [f"{tick:,.10g}" for tick in ticks]
    scale = {"type": "log", "range": [low - room, high + room], "tickvals": ticks, "ticktext": labels}
    return axis(title, **scale | options)


def _digits(decades: float) -> tuple[int, ...]:
    """Return which digits of each decade get a label, so that some five fit a phone's width."""
    if decades < 1.2:
        return (1, 2, 5)
    return (1, 5) if decades < 1.8 else (1,)


def plain(text: str) -> str:
    """Escape a name for plotly, which reads <b>, <a href> and entities in every label."""
    return html.escape(text, quote=False)


def short(text: str) -> str:
    """Cut a name to what fits beside a bar; the table has it whole."""
    return text if len(text) <= LABEL_LENGTH else f"{text[: LABEL_LENGTH - 1]}…"


def trial_label(number: float, model: str) -> str:
    """Return how a trial is named in legends and hovers."""
    return f"#{int(number)} {model}"
