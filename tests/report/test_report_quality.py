import re
from dataclasses import replace

from synthetic_run import CLASSES, MakeRun, answers

from hkbench.analysis.compare import compare
from hkbench.analysis.evaluation import evaluate
from hkbench.analysis.predictions import read_predictions, write_predictions
from hkbench.report.figures.chart import Table
from hkbench.report.load import load_run
from hkbench.report.page import build_report
from hkbench.report.quality import Quality, quality
from hkbench.report.units import percent
from hkbench.store.rundir import RunDirectory


def table_of(found: Quality) -> Table:
    assert found.table is not None
    return found.table


def rows_by_model(table: Table) -> dict[str, list[str]]:
    return {re.sub(r"<br><small>(.*), 64 px</small>", r" \1", row[0]): list(row[1:]) for row in table.rows}


def test_the_teacher_comes_first_and_the_others_by_error(finished_run: RunDirectory) -> None:
    assert list(rows_by_model(table_of(quality(load_run(finished_run))))) == [
        "efficientnet_lite0 teacher",
        "efficientnet_lite0_cut4 student, trial #12",
        "mobilenetv4_conv_small_050 student, trial #6",
        "efficientnet_lite0_cut4 no teacher, trial #13",
        "household_m student, trial #9",
    ]


def test_figures_are_those_of_the_stored_answers(finished_run: RunDirectory) -> None:
    blocks = {(one.model_id, one.part): one for one in read_predictions(finished_run.predictions)}
    one, elsewhere = blocks["student-9", "test"], blocks["student-9", "validation"]
    found = evaluate(one.logits, one.labels, calibration=(elsewhere.logits, elsewhere.labels))
    table = table_of(quality(load_run(finished_run)))
    row = dict(zip(table.columns[1:], rows_by_model(table)["household_m student, trial #9"], strict=True))
    interval = found.intervals["accuracy"]
    assert row["accuracy"] == (
        f"{percent(found.metrics['accuracy'])}"
        f"<br><small>{100 * interval.low:.1f} to {100 * interval.high:.1f}</small>"
    )
    before, after = percent(found.metrics["calibration_error"]), percent(found.calibrated_error)
    assert row["calibration error"].startswith(f"{before} → {after}<br>")
    p_value = compare(blocks["teacher", "test"], one).mcnemar.p_value
    assert (row["p"] == "< 0.001") == (p_value < 0.001)
    assert "cost-weighted error" not in table.columns


def test_the_first_row_is_not_compared_with_itself(finished_run: RunDirectory) -> None:
    found = quality(load_run(finished_run))
    assert [row[-1] == "–" for row in table_of(found).rows] == [True, False, False, False, False]
    assert "McNemar's, against the teacher efficientnet_lite0" in found.sentence


def test_models_that_answer_alike_are_not_shown_to_differ(make_run: MakeRun) -> None:
    run = make_run()
    names = ("teacher", "student-12")
    write_predictions(run.predictions, [answers(name, "test", 0.8, 690, 0) for name in names])
    found = quality(load_run(run))
    assert [row[-1] for row in table_of(found).rows] == ["–", "1.00"]
    assert found.sentence.endswith("no other is shown to differ from it in accuracy.")


def test_pictures_of_one_product_widen_the_intervals(make_run: MakeRun) -> None:
    run = make_run()
    one = answers("teacher", "test", 0.8, 690, 0)
    right = one.logits.argmax(axis=1) == one.labels
    products = [f"{answer}-{place // 10}" for place, answer in enumerate(right)]  # all right, or none
    small_print = []
    for groups in (None, products):
        write_predictions(run.predictions, [replace(one, groups=groups)])
        found = quality(load_run(run))
        assert ("intervals over" in found.sentence) == (groups is not None)
        (row,) = table_of(found).rows
        low, high = re.findall(r"<small>([\d.]+) to ([\d.]+)</small>", row[1])[0]
        small_print.append(float(high) - float(low))
    assert small_print[1] > 1.3 * small_print[0]


def test_without_a_teacher_the_best_comes_first(make_run: MakeRun) -> None:
    run = make_run()
    (run.models / "teacher" / "model.json").unlink()
    found = quality(load_run(run))
    assert next(iter(rows_by_model(table_of(found)))).startswith("efficientnet_lite0_cut4 student")
    assert "against the first row, student-12" in found.sentence


def test_answers_to_other_pictures_have_no_p(make_run: MakeRun) -> None:
    run = make_run()
    blocks = [answers("teacher", "test", 0.9, 690, 0), answers("student-12", "test", 0.8, 500, 1)]
    write_predictions(run.predictions, blocks)
    assert [row[-1] for row in table_of(quality(load_run(run))).rows] == ["–", "–"]


def test_costs_of_the_records_are_shown_where_there_are_some(make_run: MakeRun) -> None:
    run = make_run()
    for model in run.model_records():
        if model.id == "teacher":
            costs = {"cost_weighted_error": 0.25, "intervals": {"cost_weighted_error": (0.2, 0.3)}}
            parts = [part.model_copy(update=costs) for part in model.parts]
            run.write_model(model.model_copy(update={"parts": parts}))
    table = table_of(quality(load_run(run)))
    place = list(table.columns).index("cost-weighted error")
    assert [row[place] for row in table.rows] == ["0.250<br><small>0.200 to 0.300</small>", *["–"] * 4]


def test_classes_of_the_best_student_are_sorted_by_f1(finished_run: RunDirectory) -> None:
    classes = quality(load_run(finished_run)).classes
    assert classes is not None
    scores = [float(row[3].removesuffix(" %")) for row in classes.rows]
    assert scores == sorted(scores)
    assert sum(int(row[4]) for row in classes.rows) == 690
    assert {row[0] for row in classes.rows} == {f"class {place}" for place in range(CLASSES)}


def test_a_run_of_one_part_has_no_temperature(make_run: MakeRun) -> None:
    run = make_run()
    for model in run.model_records():
        run.write_model(model.model_copy(update={"parts": model.parts[:1]}))
    found = quality(load_run(run))
    assert "1,380 pictures of the validation part" in found.sentence
    assert "temperature" not in found.sentence
    assert not any("→" in cell for row in table_of(found).rows for cell in row)


def test_a_name_in_a_cell_is_text(make_run: MakeRun) -> None:
    run = make_run()
    teacher = next(model for model in run.model_records() if model.id == "teacher")
    run.write_model(teacher.model_copy(update={"model": "<i>bold</i>"}))
    page = build_report(run).read_text(encoding="utf-8")
    assert "<td>&lt;i&gt;bold&lt;/i&gt;<br><small>teacher, 64 px</small></td>" in page
    assert "<i>bold" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_without_answers_the_section_says_what_brings_them(make_run: MakeRun) -> None:
    run = make_run()
    run.predictions.unlink()
    found = quality(load_run(run))
    assert (found.table, found.classes) == (None, None)
    assert "hkbench search" in build_report(run).read_text().split('id="quality"')[1].split("</section>")[0]


def test_the_page_has_both_tables(finished_run: RunDirectory, tmp_path) -> None:
    page = build_report(finished_run, tmp_path / "report.html").read_text(encoding="utf-8")
    section = page.split('<section id="quality"')[1].split("</section>")[0]
    assert section.count("<table>") == 2
    assert section.index("<details>") > section.index("</table>")
    assert section.count("<tr>") == 1 + 5 + 1 + CLASSES
