import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_run import MakeRun, benchmark_record, run_record, trial_record

from hkbench.report.figures import FIGURES
from hkbench.report.figures.chart import Chart
from hkbench.report.load import load_run
from hkbench.store.rundir import RunDirectory


def chart(run: RunDirectory, name: str) -> Chart:
    found = FIGURES[name](load_run(run))
    assert found is not None
    return found


def traces(run: RunDirectory, name: str, kind: str) -> list[Any]:
    figure = chart(run, name).figure
    assert figure is not None
    return [trace for trace in figure.data if trace.type == kind]


def axis_texts(run: RunDirectory, name: str) -> list[str]:
    figure = chart(run, name).figure
    assert figure is not None
    return [axis.title.text for axis in (*figure.select_xaxes(), *figure.select_yaxes()) if axis.title.text]


@pytest.mark.parametrize("name", FIGURES)
def test_every_chart_says_what_it_shows_and_has_a_table(finished_run: RunDirectory, name: str) -> None:
    found = chart(finished_run, name)
    assert found.sentence.endswith(".")
    assert found.table is not None
    assert found.table.rows
    assert all(len(row) == len(found.table.columns) for row in found.table.rows)
    assert found.table.numeric <= set(found.table.columns)
    assert found.figure.layout.height


@pytest.mark.parametrize("name", sorted(set(FIGURES) - {"published", "ranking"}))
def test_every_chart_of_an_empty_run_names_the_command_that_fills_it(tmp_path: Path, name: str) -> None:
    run = RunDirectory(tmp_path / "run")
    run.write_run(run_record("run"))
    found = chart(run, name)
    assert found.figure is None
    assert "hkbench search" in found.sentence


def test_bars_are_the_records_in_one_order(finished_run: RunDirectory) -> None:
    sizes, latencies, errors = traces(finished_run, "less_is_better", "bar")
    assert list(sizes.x) == [1.45, 3.25, 3.9, 3.9, 13.9]
    assert list(latencies.x) == [1.2, 2.3, 3.1, 3.1, 9.7]
    assert list(latencies.error_x.array) == pytest.approx([0.14 * p50 for p50 in latencies.x])
    models = {model.id: model for model in finished_run.model_records()}
    order = ["student-9", "student-6", "student-12", "twin", "teacher"]
    tested = [models[id_].parts[1].metrics["accuracy"] for id_ in order]
    assert list(errors.x) == pytest.approx([100 * (1 - accuracy) for accuracy in tested])
    figure = chart(finished_run, "less_is_better").figure
    assert all(axis.range[0] == 0 for axis in figure.select_xaxes())
    assert all("← less is better" in axis.title.text for axis in figure.select_xaxes())


def test_a_spread_over_fifty_is_drawn_as_dots_on_a_log_axis_that_says_so(make_run: MakeRun) -> None:
    run = make_run()
    student = next(model for model in run.model_records() if model.id == "student-9")
    run.write_model(student.model_copy(update={"size_bytes": 13_900_000 // 51}))
    figure = chart(run, "less_is_better").figure
    assert figure.data[0].type == "scatter"
    assert figure.layout.xaxis.type == "log"
    assert "log axis" in figure.layout.xaxis.title.text
    assert len(traces(run, "less_is_better", "bar")) == 2


def test_a_failed_and_a_missing_latency_are_words_not_gaps(make_run: MakeRun) -> None:
    run = make_run()
    run.append(benchmark_record("student-9", None, measured="2026-11-25T00:00:00+00:00"))
    teacher = next(model for model in run.model_records() if model.id == "teacher")
    run.write_model(teacher.model_copy(update={"sha256": "exported anew"}))
    words = [text.strip() for text in traces(run, "less_is_better", "scatter")[1].text]
    assert (words[0], words[-1]) == ("failed", "not measured")
    table = chart(run, "less_is_better").table
    assert table is not None
    assert table.rows[0][-1] == "the process was killed for memory"


def test_without_latencies_the_command_is_named(make_run: MakeRun) -> None:
    run = make_run(name="the shop")
    (run.path / "benchmark.jsonl").unlink()
    assert f"hkbench benchmark '{run.path}'." in chart(run, "less_is_better").sentence


def test_a_twin_is_told_from_other_trials_without_a_teacher(make_run: MakeRun) -> None:
    run = make_run()
    twin = next(model for model in run.model_records() if model.id == "twin")
    seed_point = twin.model_copy(update={"id": "a-hard-trial", "trial": 1, "twin_of": None, "parts": []})
    run.write_model(seed_point)
    table = chart(run, "less_is_better").table
    assert table is not None
    labels = {row[1]: row[0] for row in table.rows}
    assert labels["twin"] == "twin of #12, no teacher: efficientnet_lite0_cut4"
    assert labels["a-hard-trial"] == "no teacher #1: efficientnet_lite0_cut4"
    assert labels["student-12"] == "student #12: efficientnet_lite0_cut4"


def test_the_map_compares_with_the_twin_alone(make_run: MakeRun) -> None:
    run = make_run()
    twin = next(model for model in run.model_records() if model.id == "twin")
    run.write_model(twin.model_copy(update={"id": "a-hard-trial", "trial": 1, "twin_of": None}))
    run.write_model(twin.model_copy(update={"parts": []}))
    assert "Without a teacher (trial #" in chart(run, "temperature_alpha").sentence


def test_the_frontier_shows_each_trial_with_values_once_and_its_file_where_there_is_one(
    finished_run: RunDirectory,
) -> None:
    points = [trace for trace in traces(finished_run, "frontier", "scatter") if trace.mode == "markers"]
    drawn = sorted(y for trace in points if trace.name != "teacher" for y in trace.y)
    files = {model.trial: model.accuracy("validation") for model in finished_run.model_records()}
    trials = [trial for trial in finished_run.trials() if trial.values["accuracy"]]
    known = [files.get(trial.number, trial.values["accuracy"]) for trial in trials]
    assert files.keys() & {trial.number for trial in trials}
    assert drawn == pytest.approx(sorted(100 * (1 - accuracy) for accuracy in known))
    assert chart(finished_run, "frontier").figure.layout.xaxis.type == "log"


def test_the_steps_fall_from_left_to_right(finished_run: RunDirectory) -> None:
    (steps,) = (trace for trace in traces(finished_run, "frontier", "scatter") if trace.mode == "lines")
    assert list(steps.x) == sorted(steps.x)
    assert list(steps.y) == sorted(steps.y, reverse=True)


def test_ten_curves_and_the_teacher_are_named(make_run: MakeRun) -> None:
    curves = traces(make_run(trials=40), "learning_curves", "scatter")
    named = [curve.name for curve in curves if curve.showlegend is not False]
    assert len(named) == 11
    assert named[-1] == "teacher"
    assert len(curves) > 11


def test_the_map_counts_every_completed_distilled_trial_and_leaves_the_rest_empty(
    finished_run: RunDirectory,
) -> None:
    (heat,) = traces(finished_run, "temperature_alpha", "heatmap")
    counts = [int(text.split("n = ")[1]) for row in heat.text for text in row if text]
    done = [trial for trial in finished_run.trials() if trial.state == "COMPLETE" and trial.temperature]
    assert sum(counts) == len(done)
    assert all((value is None) == (text == "") for z, t in zip(heat.z, heat.text, strict=True)
               for value, text in zip(z, t, strict=True))  # fmt: skip
    assert (
        "Without a teacher (the twin of #12, efficientnet_lite0_cut4): 16.2 %."
        in chart(finished_run, "temperature_alpha").sentence
    )


def test_a_cell_has_the_median_of_its_trials(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.write_run(run_record("run"))
    generator = np.random.default_rng(0)
    for number, accuracy in enumerate((0.5, 0.6, 0.9)):
        run.append(trial_record(
            number, generator, state="COMPLETE", loss="kd", temperature=3.0, weight_hard=0.0, weight_soft=1.0,
            values={"accuracy": accuracy},
        ))  # fmt: skip
    table = chart(run, "temperature_alpha").table
    assert table is not None
    assert table.rows == [["2.8–4", "0–0.2", "40.0 %", "3"]]


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.95, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
def test_the_edges_of_the_map_are_inside_it(tmp_path: Path, alpha: float, temperature: float) -> None:
    run = RunDirectory(tmp_path / "run")
    run.write_run(run_record("run"))
    run.append(trial_record(
        0, np.random.default_rng(0), state="COMPLETE", temperature=temperature, weight_hard=alpha,
        weight_soft=0.5, values={"accuracy": 0.5},
    ))  # fmt: skip
    (heat,) = traces(run, "temperature_alpha", "heatmap")
    assert sum(value is not None and not math.isnan(value) for row in heat.z for value in row) == 1


def test_published_figures_are_for_goods69_alone(make_run: MakeRun) -> None:
    assert "As published, other pictures" in chart(make_run(), "published").sentence
    assert FIGURES["published"](load_run(make_run(name="shop", data="folder"))) is None


@pytest.mark.parametrize("name", sorted(set(FIGURES) - {"temperature_alpha"}))
def test_axes_name_their_units(finished_run: RunDirectory, name: str) -> None:
    figure = chart(finished_run, name).figure
    said = " ".join([*axis_texts(finished_run, name), *(note.text for note in figure.layout.annotations)])
    assert any(unit in said for unit in ("MB", "%"))


def test_published_figures_are_those_of_the_study(finished_run: RunDirectory) -> None:
    table = chart(finished_run, "published").table
    assert table is not None
    assert [list(row) for row in table.rows] == [
        ["baseline CNN", "–", "38.8"],
        ["DenseNet, the teacher", "430", "11.3"],
        ["SqueezeNet, its student", "4.40", "10.7"],
    ]


def test_classes_whose_names_are_numbers_or_begin_alike_keep_a_bar_each(make_run: MakeRun) -> None:
    run = make_run()
    record = run.read_run()
    assert record.data is not None
    names = [str(number) for number in range(6)] + [
        "a name longer than fits beside a bar " * n for n in range(1, 7)
    ]
    run.write_run(record.model_copy(update={"data": record.data.model_copy(update={"classes": names})}))
    (bars,) = traces(run, "classes", "bar")
    assert len(set(bars.y)) == len(bars.x) == 12
    assert set("012345") < set(chart(run, "classes").figure.layout.yaxis.ticktext)


def test_the_hardest_classes_are_counted_from_the_stored_answers(finished_run: RunDirectory) -> None:
    found = chart(finished_run, "classes")
    loaded = load_run(finished_run)
    best = loaded.models[loaded.models["role"] == "student"].sort_values("validation_error").iloc[0]
    (answers,) = [b for b in loaded.predictions if (b.model_id, b.part) == (best["id"], loaded.part)]
    assert found.table is not None
    pictures = {row[0]: int(row[1]) for row in found.table.rows}
    names = finished_run.read_run().data.classes
    assert pictures == {names[k]: int(n) for k, n in enumerate(np.bincount(answers.labels)) if n}
    errors = [float(row[2].removesuffix(" %")) for row in found.table.rows]
    assert errors == sorted(errors, reverse=True)


def test_choices_with_seeds_are_ranked_by_their_error(finished_run: RunDirectory) -> None:
    found = chart(finished_run, "ranking")
    assert found.title == "Ranking: model"
    (drawn,) = traces(finished_run, "ranking", "scatter")
    assert list(drawn.x) == sorted(drawn.x)
    assert "least mean validation error" in found.sentence
    assert {row[0] for row in found.table.rows} == {"model", "optimizer"}


def test_without_seeds_there_is_no_ranking(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.write_run(run_record("run"))
    assert FIGURES["ranking"](load_run(run)) is None


@pytest.mark.parametrize(("kind", "loss", "weight_soft"), [("search", "hard", 0.0), ("train", "kd", 1.0)])
def test_without_several_taught_trials_there_is_no_map(
    tmp_path: Path, kind: str, loss: str, weight_soft: float
) -> None:
    run = RunDirectory(tmp_path / "run")
    run.write_run(run_record("run", kind=kind))
    changes = {"state": "COMPLETE", "loss": loss, "weight_soft": weight_soft}
    run.append(trial_record(0, np.random.default_rng(0), **changes))
    assert FIGURES["temperature_alpha"](load_run(run)) is None
