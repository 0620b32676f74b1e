"""A whole search on a small folder of pictures: trials on Ray workers, exports, records, resume."""

import json
from dataclasses import replace

import pytest
from search_fakes import Heard, draw_pictures, tiny_plan

from hkbench.analysis.metrics import metrics_of
from hkbench.analysis.predictions import read_predictions
from hkbench.errors import UsageError
from hkbench.runs.search import run_search
from hkbench.store.records import BenchmarkRecord, TelemetryRecord

pytestmark = pytest.mark.ray

A_CLASS = 30


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three classes of noisy pictures in their own colours, with one file that is no picture."""
    folder = draw_pictures(tmp_path_factory.mktemp("pictures"), A_CLASS)
    (folder / "mug" / "broken.png").write_bytes(b"no picture at all")
    return folder


def taught(model, temperature):
    params = {"model": model, "loss": "kd", "temperature": temperature, "alpha": 0.3}
    return {"name": f"{model} at {temperature}", "source": "this test", "params": params}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pictures):
    """One finished search; its folder, plan, listener and result."""
    folder = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HKBENCH_CACHE", str(folder / "cache"))
        changes = {
            "schedule": {"trials": 3, "max_epochs": 2, "grace": 2},
            "start_with": [
                taught("household_s", 2.0),
                taught("household_s", 4.0),
                taught("baseline_cnn", 2.0),
            ],
        }
        plan = tiny_plan(folder, space=changes, data=str(pictures), concurrency=2, views=2)
        heard = Heard()
        result = run_search(plan, heard)
        yield plan, heard, result


def test_a_search_goes_through_its_phases_and_ends_its_trials(finished):
    _, heard, result = finished
    assert heard.phases == [
        "pictures",
        "architectures",
        "teacher",
        "teacher logits",
        "views",
        "search",
        "twin without teacher",
        "export",
        "findings",
        "measure",
    ]
    trials = result.run.trials()
    assert len(trials) == 4
    assert trials[-1].seed_point.startswith("twin of")
    assert all(trial.state in ("COMPLETE", "PRUNED") for trial in trials)
    record = result.run.read_run()
    assert record.status == "finished"
    assert [name for name, _ in record.data.rejected] == ["mug/broken.png"]
    assert any("mug/broken.png" in warning for warning in record.warnings)
    assert set(record.phase_seconds) == set(heard.phases)


def test_every_figure_of_a_model_is_of_its_own_file(finished):
    _, _, result = finished
    rows = {row.sha256: row for row in result.run.read(BenchmarkRecord)}
    blocks = {(block.model_id, block.part): block for block in read_predictions(result.run.predictions)}
    assert {model.role for model in result.models} == {"teacher", "student", "no-teacher"}
    for model in result.models:
        file = result.run.models / model.id / model.files["onnx"]
        assert file.stat().st_size == model.size_bytes
        assert rows[model.sha256].p50_ms > 0
        for part in model.parts:
            block = blocks[model.id, part.part]
            assert part.metrics == metrics_of(block.logits, block.labels)


def test_bytes_are_known_before_training(finished):
    _, _, result = finished
    trials = {trial.number: trial for trial in result.run.trials()}
    shipped = [model for model in result.models if model.trial is not None]
    assert shipped
    for model in shipped:
        assert trials[model.trial].values["artifact_bytes"] == pytest.approx(model.size_bytes, rel=0.03)


def test_the_best_student_stands_beside_its_twin(finished):
    _, _, result = finished
    (twin,) = [model for model in result.models if model.twin_of is not None]
    student = next(model for model in result.models if model.trial == twin.twin_of)
    assert (student.role, twin.role) == ("student", "no-teacher")
    assert {**student.params, "loss": "hard"}.items() >= twin.params.items()


def test_workers_are_reused_and_every_epoch_has_its_cost(finished):
    _, _, result = finished
    rows = [row for row in result.run.read(TelemetryRecord) if row.source == "trial"]
    assert len(rows) == sum(trial.epochs for trial in result.run.trials())
    assert all(row.usage.cpu_seconds > 0 and row.usage.peak_rss_bytes > 0 for row in rows)
    assert all(row.usage.gpu_seconds is None and row.usage.gpu_reason for row in rows)


def test_nothing_of_ray_is_left_in_the_run_directory(finished):
    _, _, result = finished
    names = {path.name for path in result.run.path.iterdir()}
    assert "ray" not in names
    assert {"run.json", "study.log", "trials.jsonl", "epochs.jsonl", "benchmark.jsonl", "models"} <= names


def test_a_run_directory_in_use_is_refused(finished):
    plan, heard, _ = finished
    with pytest.raises(UsageError, match="holds a search already"):
        run_search(plan, heard)


def test_another_studys_run_directory_is_refused_with_the_difference(finished):
    plan, heard, _ = finished
    with pytest.raises(UsageError, match="another study's: seed is 0, asked for 5"):
        run_search(replace(plan, resume=True, seed=5), heard)


def test_resuming_a_finished_search_trains_nothing_again(finished):
    plan, _, before = finished
    heard = Heard()
    after = run_search(replace(plan, resume=True), heard)
    assert heard.started == []
    assert [m.sha256 for m in after.models] == [m.sha256 for m in before.models]
    assert after.nothing_to_do
    assert json.loads(after.run.run_file.read_text())["status"] == "finished"
