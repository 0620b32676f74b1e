"""Where the best network errs: the classes with the most error, and what they are taken for."""

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from hkbench.analysis.predictions import class_accuracy, confusion
from hkbench.report.figures.chart import BLUE, VERMILLION, Chart, Table, axis, figure_with, plain, short
from hkbench.report.headline import Model, best_model, best_network
from hkbench.report.load import LoadedRun
from hkbench.report.units import counted, percent

TITLE = "The hardest classes"
SHOWN = 15
ROW_PX = 24
Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A class on the shown part: errors as shares, the teacher's None where there is no teacher."""

    name: str
    pictures: int
    error: float
    teacher_error: float | None
    taken_for: str


def classes(loaded: LoadedRun) -> Chart:
    """Draw the best student's error by class, or the best network's; the teacher's is a mark beside it."""
    rows, best = _rows(loaded), best_network(loaded)
    word = "student" if best is not None and best["role"] == "student" else "network"
    if not rows:
        return Chart(
            title=TITLE,
            sentence="No network's answers are stored yet. A search that ends stores them: hkbench search.",
            figure=None,
            table=None,
        )
    worst = [row for row in rows if row.error > 0][:SHOWN]
    return Chart(
        title=TITLE,
        sentence=_sentence(loaded, rows, worst, word),
        figure=_figure(worst, word) if worst else None,
        table=Table(
            columns=["class", "pictures", f"{word}'s error", "teacher's error", "most often taken for"],
            rows=[
                [row.name, str(row.pictures), percent(row.error), percent(row.teacher_error), row.taken_for]
                for row in rows
            ],
            numeric=frozenset({"pictures", f"{word}'s error", "teacher's error"}),
        ),
        narrow={"font": {"size": 11}},
    )


def _rows(loaded: LoadedRun) -> list[_Row]:
    """Return every class with pictures in the shown part, those with the most error first."""
    names = loaded.run.data.classes if loaded.run.data is not None else []
    student = _counts(loaded, best_network(loaded))
    teacher = _counts(loaded, best_model(loaded, "teacher"))
    if student is None or len(names) != len(student):
        return []
    error = 1 - class_accuracy(student)
    beside = None if teacher is None else 1 - class_accuracy(teacher)
    rows = [
        _Row(
            name=name,
            pictures=int(student[place].sum()),
            error=float(error[place]),
            teacher_error=None if beside is None else float(beside[place]),
            taken_for=_taken_for(student[place], place, names),
        )
        for place, name in enumerate(names)
        if student[place].any()
    ]
    return sorted(rows, key=lambda row: (-row.error, row.name))


def _counts(loaded: LoadedRun, model: Model | None) -> Counts | None:
    for block in loaded.predictions:
        if model is not None and (block.model_id, block.part) == (model["id"], loaded.part):
            return confusion(block)
    return None


def _taken_for(answers: Counts, place: int, names: list[str]) -> str:
    """Return the commonest wrong answer with its count; a dash where there is none."""
    wrong = answers.copy()
    wrong[place] = 0
    commonest = int(wrong.argmax())
    return f"{names[commonest]} ({wrong[commonest]})" if wrong[commonest] else "–"


def _sentence(loaded: LoadedRun, rows: list[_Row], worst: list[_Row], word: str) -> str:
    right = sum(row.error == 0 for row in rows)
    said = f"The best {word} on the {loaded.part} part: {right} of {len(rows)} classes without an error"
    if not worst:
        return f"{said}."
    first = worst[0]
    pictures = counted(first.pictures, "picture")
    return (
        f"{said}; '{first.name}' has the most, {percent(first.error)} of {pictures}, "
        f"taken most often for {first.taken_for}. Few pictures a class: read single bars with care."
    )


def _figure(worst: list[_Row], word: str) -> go.Figure:
    # Places, not names: two long names may be cut to the same, and plotly would read "10" as a number.
    places = list(range(len(worst)))
    hover = [f"{plain(row.name)}: {percent(row.error)}, most for {plain(row.taken_for)}" for row in worst]
    student = go.Bar(
        y=places,
        x=[100 * row.error for row in worst],
        orientation="h",
        name=f"best {word}",
        marker={"color": BLUE},
        hoverinfo="text",
        hovertext=hover,
    )
    traces: list[object] = [student]
    if any(row.teacher_error is not None for row in worst):
        traces.append(
            go.Scatter(
                y=places,
                x=[None if row.teacher_error is None else 100 * row.teacher_error for row in worst],
                mode="markers",
                name="teacher",
                marker={"color": VERMILLION, "symbol": "diamond", "size": 9},
                hoverinfo="x+name",
            )
        )
    return figure_with(
        traces,
        height=90 + ROW_PX * len(worst),
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        xaxis=axis("error, % ← less is better", rangemode="tozero"),
        yaxis=axis(
            "",
            autorange="reversed",
            tickvals=places,
            ticktext=[plain(short(row.name)) for row in worst],
            ticklabelstandoff=6,
            showgrid=False,
        ),
    )
