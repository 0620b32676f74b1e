from dataclasses import replace

from synthetic_run import MakeRun

from hkbench.analysis.intervals import Interval
from hkbench.analysis.ranking import Ranked, Ranking
from hkbench.report.figures.ranking import ranking
from hkbench.report.load import load_run


def ranked(choice: str, accuracy: float, difference: Interval | None = None) -> Ranked:
    around = Interval(estimate=accuracy, low=accuracy - 0.01, high=accuracy + 0.01)
    return Ranked(choice=choice, seeds=3, accuracy=around, difference=difference)


WORSE = Interval(estimate=-0.1, low=-0.12, high=-0.08)
UNSURE = Interval(estimate=-0.01, low=-0.03, high=0.01)


def test_choices_without_seeds_are_named(make_run: MakeRun) -> None:
    rows = (ranked("adamw", 0.8), ranked("sgd", 0.79, UNSURE), ranked("lion", 0.7, WORSE))
    found = Ranking(parameter="optimizer", rows=rows, left_out=("muon", "adam"))
    chart = ranking(replace(load_run(make_run()), rankings=[found]))
    assert chart is not None
    assert "No difference to it is shown for sgd (grey)." in chart.sentence
    assert "Tukey's test" in chart.sentence
    assert chart.sentence.endswith("fewer than two seeds of one setting ran to the end: muon, adam.")
    whole = ranking(replace(load_run(make_run()), rankings=[replace(found, left_out=())]))
    assert whole is not None
    assert "Left out" not in whole.sentence


def test_numbers_are_drawn_as_names(make_run: MakeRun) -> None:
    rows = (ranked("10", 0.8), ranked("2", 0.7, WORSE))
    found = Ranking(parameter="depth", rows=rows, left_out=())
    chart = ranking(replace(load_run(make_run()), rankings=[found]))
    assert chart is not None
    assert chart.figure is not None
    (trace,) = chart.figure.data
    assert list(trace.y) == [0, 1]
    assert list(chart.figure.layout.yaxis.ticktext) == ["10", "2"]
    assert "All others are shown to be worse." in chart.sentence
