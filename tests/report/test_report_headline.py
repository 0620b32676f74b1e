import re
import shutil
from pathlib import Path

from synthetic_run import MakeRun, answers, run_record

from hkbench.analysis.metrics import metrics_of
from hkbench.analysis.predictions import write_predictions
from hkbench.report.headline import cautions, headline
from hkbench.report.load import load_run
from hkbench.report.page import render
from hkbench.store.records import PartMetrics
from hkbench.store.rundir import RunDirectory


def with_accuracies(run: RunDirectory, student: float, teacher: float, twin: float = 0.5) -> RunDirectory:
    """Give the best student, the teacher and the twin these accuracies on both parts."""
    accuracies = {"student-12": student, "teacher": teacher, "twin": twin}
    blocks = [
        answers(id_, part, accuracy, 690, seed)
        for seed, (id_, accuracy) in enumerate(accuracies.items())
        for part in ("validation", "test")
    ]
    write_predictions(run.predictions, blocks)
    for model in run.model_records():
        parts = [
            PartMetrics(part=one.part, pictures=690, metrics=metrics_of(one.logits, one.labels))
            for one in blocks
            if one.model_id == model.id
        ]
        run.write_model(model.model_copy(update={"parts": parts or model.parts}))
    return run


def test_it_compares_the_best_student_with_its_teacher(finished_run: RunDirectory) -> None:
    said = headline(load_run(finished_run))
    assert said.startswith(
        "Student efficientnet_lite0_cut4 (trial #12) is 3.56 times smaller and 3.13 times faster "
        "(cpu, batch 1) than its teacher efficientnet_lite0,"
    )
    assert "690 pictures of the test part" in said


def test_it_tells_what_distillation_brought(make_run: MakeRun) -> None:
    said = headline(load_run(with_accuracies(make_run(), student=0.9, teacher=0.9, twin=0.8)))
    assert re.search(
        r"\. What distillation brought, against its twin without a teacher: 10\.0 points less error "
        r"\(95 % interval \d+\.\d to \d+\.\d, 690 pictures of the test part\)\.$",
        said,
    )


def test_a_twin_that_is_as_good_shows_no_gain(make_run: MakeRun) -> None:
    said = headline(load_run(with_accuracies(make_run(), student=0.9, teacher=0.95, twin=0.9)))
    assert "its twin without a teacher: no difference in error shown (95 % interval" in said


def test_the_twin_of_another_student_is_passed_over(make_run: MakeRun) -> None:
    run = make_run()
    twin = next(model for model in run.model_records() if model.id == "twin")
    run.write_model(twin.model_copy(update={"twin_of": 6}))
    assert "twin" not in headline(load_run(run))


def test_an_interval_around_zero_is_called_no_difference(make_run: MakeRun) -> None:
    said = headline(load_run(with_accuracies(make_run(), student=0.9, teacher=0.9)))
    assert "no difference in error shown" in said
    assert "−" in said


def test_a_worse_student_costs_points(make_run: MakeRun) -> None:
    said = headline(load_run(with_accuracies(make_run(), student=0.85, teacher=0.95)))
    assert "with 10.0 points more error (95 % interval" in said


def test_a_better_student_saves_points(make_run: MakeRun) -> None:
    said = headline(load_run(with_accuracies(make_run(), student=0.95, teacher=0.85)))
    assert "with 10.0 points less error (95 % interval" in said


def test_without_predictions_no_interval_is_claimed(make_run: MakeRun) -> None:
    run = make_run()
    run.predictions.unlink()
    said = headline(load_run(run))
    assert "points more error on the test part (no interval" in said


def test_without_latencies_nothing_is_said_of_speed(make_run: MakeRun) -> None:
    run = make_run()
    (run.path / "benchmark.jsonl").unlink()
    assert "3.56 times smaller than its teacher" in headline(load_run(run))


def test_without_a_teacher_the_student_stands_alone(make_run: MakeRun) -> None:
    run = make_run()
    for gone in ("teacher", "twin"):
        (run.models / gone / "model.json").unlink()
    said = headline(load_run(run))
    assert said == (
        "Student efficientnet_lite0_cut4 (trial #12): 3.90 MB, 3.10 ms (cpu, batch 1), "
        "12.9 % error on the test part."
    )


def test_a_good_teacher_and_a_finished_run_need_no_caution(finished_run: RunDirectory) -> None:
    assert cautions(load_run(finished_run)) == []


def test_warnings_of_the_run_and_its_end_are_told(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.write_run(run_record("run", status="interrupted", warnings=["Two pictures were bad."]))
    assert cautions(load_run(run))[0] == "Two pictures were bad."
    assert "interrupted" in cautions(load_run(run))[1]


def test_where_nothing_was_taught_the_best_network_stands_alone(make_run: MakeRun) -> None:
    run = make_run()
    for model in run.model_records():
        if model.role != "no-teacher":
            shutil.rmtree(run.models / model.id)
    said = headline(load_run(run))
    assert said.startswith("efficientnet_lite0_cut4 (trial #13): 3.90 MB, 3.10 ms (cpu, batch 1), ")
    assert said.endswith("error on the test part. It had no teacher.")
    page = render(load_run(run))
    assert "The best network on the test part" in page
    assert "The best network class by class" in page


def test_a_search_that_looks_at_accuracy_alone_has_no_map_of_sizes(make_run: MakeRun) -> None:
    run = make_run()
    run.write_run(run.read_run().model_copy(update={"objectives": {"accuracy": "maximize"}}))
    assert "The frontier" not in render(load_run(run))
