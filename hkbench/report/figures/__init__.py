"""The charts of a report: one module each, and one line here. A chart reads the loaded run alone.

A function that returns None has nothing to say about this run.
"""

from collections.abc import Callable

from hkbench.report.figures.chart import Chart
from hkbench.report.figures.classes import classes
from hkbench.report.figures.frontier import frontier
from hkbench.report.figures.learning_curves import learning_curves
from hkbench.report.figures.less_is_better import less_is_better
from hkbench.report.figures.published import published
from hkbench.report.figures.ranking import ranking
from hkbench.report.figures.temperature_alpha import temperature_alpha
from hkbench.report.load import LoadedRun

FIGURES: dict[str, Callable[[LoadedRun], Chart | None]] = {
    "less_is_better": less_is_better,
    "frontier": frontier,
    "learning_curves": learning_curves,
    "ranking": ranking,
    "temperature_alpha": temperature_alpha,
    "classes": classes,
    "published": published,
}
