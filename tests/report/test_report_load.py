import numpy as np
import pytest
from synthetic_run import MakeRun, benchmark_record, run_record, trial_record

from hkbench.errors import UsageError
from hkbench.report.latency import cpu_latency
from hkbench.report.load import load_run
from hkbench.store.rundir import RunDirectory


def test_a_whole_run_is_read(finished_run: RunDirectory) -> None:
    loaded = load_run(finished_run)
    assert len(loaded.trials) == 26
    assert loaded.part == "test"
    assert (loaded.trials["error"].dropna() == 1 - loaded.trials["accuracy"].dropna()).all()
    assert loaded.models.set_index("id").loc["teacher", "pictures"] == 690
    assert {block.model_id for block in loaded.predictions} == set(loaded.models["id"])


def test_the_frontier_has_only_completed_feasible_trials(make_run: MakeRun) -> None:
    run = make_run()
    generator = np.random.default_rng(0)
    best = {"accuracy": 0.99, "artifact_bytes": 1.0, "latency_ms": 0.1}
    run.append(trial_record(40, generator, state="COMPLETE", values=best, constraints={"accuracy": 0.01}))
    run.append(trial_record(41, generator, state="PRUNED", values=best))
    run.append(trial_record(42, generator, state="COMPLETE", values=best | {"accuracy": 0.98}))
    trials = load_run(run).trials.set_index("number")
    assert trials[trials["frontier"]].index.tolist() == [42]
    assert not trials.loc[40, "feasible"]


def test_a_run_json_alone_gives_empty_tables_with_their_columns(tmp_path) -> None:
    run = RunDirectory(tmp_path / "empty")
    run.write_run(run_record("empty"))
    loaded = load_run(run)
    assert loaded.trials.empty
    assert loaded.models.empty
    assert "frontier" in loaded.trials
    assert loaded.predictions == []


def test_errors_are_ranked_on_the_one_part_that_all_models_have(make_run: MakeRun) -> None:
    run = make_run()
    teacher = next(model for model in run.model_records() if model.id == "teacher")
    run.write_model(teacher.model_copy(update={"parts": teacher.parts[:1]}))
    loaded = load_run(run)
    assert loaded.part == "validation"
    assert (loaded.models["pictures"] == 1380).all()


def test_a_record_that_can_not_be_read_names_its_file(make_run: MakeRun) -> None:
    run = make_run()
    (run.path / "trials.jsonl").write_text('{"number": "many"}\n')
    with pytest.raises(UsageError, match=r"trials\.jsonl, line 1"):
        load_run(run)


def test_latencies_of_other_devices_batches_threads_and_files_are_left_out(make_run: MakeRun) -> None:
    run = make_run()
    later = "2026-11-25T00:00:00+00:00"
    for changes in (
        {"device": "cuda:0"},
        {"batch": 32},
        {"threads": 2},
        {"sha256": "of an older file"},
        {"runtime": "torch 2.14"},
    ):
        run.append(benchmark_record("teacher", 99.0, measured=later, **changes))
    latency = cpu_latency(load_run(run))
    assert latency.rows["p50_ms"].max() == 9.7
    assert latency.setting == "cpu, batch 1, onnxruntime 1.23, 1 thread, AMD EPYC 7B13"


def test_the_last_measurement_of_a_file_counts(make_run: MakeRun) -> None:
    run = make_run()
    run.append(benchmark_record("teacher", 8.5, measured="2026-11-25T00:00:00+00:00"))
    assert cpu_latency(load_run(run)).rows.loc["teacher", "p50_ms"] == 8.5
