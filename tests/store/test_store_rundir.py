"""The run directory: nothing written is lost, a torn line is passed over, a newer schema is refused."""

import errno
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hkbench.errors import UsageError
from hkbench.store import atomic
from hkbench.store.records import EpochRecord, RunRecord, TrialRecord
from hkbench.store.rundir import RunDirectory


def epoch(trial, number, accuracy=0.5):
    return EpochRecord(
        trial=trial,
        epoch=number,
        train_loss=1.0,
        learning_rate=0.1,
        seconds=1.0,
        metrics={"accuracy": accuracy},
    )


def run_record(**changes):
    return RunRecord(
        **{
            "name": "run",
            "kind": "search",
            "command": ["hkbench", "search"],
            "created": "2026-01-01T00:00:00+00:00",
            "config": {},
            "versions": {},
            "hardware": {},
            **changes,
        }
    )


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run")


def test_records_come_back_as_they_were(run):
    run.write_run(run_record(warnings=["Увага ☂"]))
    run.append(epoch(0, 1))
    assert RunDirectory.open(run.path).read_run() == run_record(warnings=["Увага ☂"])
    assert run.read(EpochRecord) == [epoch(0, 1)]
    assert run.read(TrialRecord) == []


def test_the_last_line_of_an_epoch_counts(run):
    for row in (epoch(1, 1), epoch("teacher", 1), epoch(1, 2), epoch(0, 1), epoch(1, 1, accuracy=0.9)):
        run.append(row)
    found = [(row.trial, row.epoch, row.metrics["accuracy"]) for row in run.epochs()]
    assert found == [(0, 1, 0.5), (1, 1, 0.9), (1, 2, 0.5), ("teacher", 1, 0.5)]


@given(st.integers(1, 60))
def test_a_line_torn_anywhere_costs_that_line_alone(tmp_path_factory, cut):
    run = RunDirectory(tmp_path_factory.mktemp("torn"))
    path = run.path / "epochs.jsonl"
    run.append(epoch(0, 1))
    run.append(epoch(0, 2))
    path.write_bytes(path.read_bytes()[:-cut])
    before = [row.epoch for row in run.read(EpochRecord)]
    assert before in ([1], [1, 2])
    run.append(epoch(0, 3))
    assert [row.epoch for row in run.read(EpochRecord)] == [*before, 3]


def test_a_newer_schema_is_refused(run):
    run.append(epoch(0, 1))
    path = run.path / "epochs.jsonl"
    path.write_text(path.read_text().replace('"schema_version":1', '"schema_version":2'))
    with pytest.raises(UsageError, match="has schema 2, this hkbench reads up to 1"):
        run.read(EpochRecord)


def test_a_record_of_another_shape_names_its_line(run):
    run.append(epoch(0, 1))
    with (run.path / "epochs.jsonl").open("a") as file:
        file.write(json.dumps({"schema_version": 1, "trial": 0}) + "\n")
    with pytest.raises(UsageError, match=r"epochs\.jsonl, line 2"):
        run.read(EpochRecord)


def test_what_is_no_number_is_never_recorded():
    with pytest.raises(ValueError, match="finite"):
        EpochRecord.model_validate({**epoch(0, 1).model_dump(), "train_loss": float("nan")})


def test_a_folder_without_run_json_is_no_run(tmp_path):
    with pytest.raises(UsageError, match="is not a run directory"):
        RunDirectory.open(tmp_path)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    atomic.write_text(path, "old")

    def fail():
        with atomic.replacing(path) as temporary:
            temporary.write_text("half of the ne")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UsageError, match="No room on the disk"):
        fail()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


def test_other_faults_of_the_disk_are_not_called_full(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(NotADirectoryError),
        atomic.explaining_full_disk(tmp_path),
        (tmp_path / "file" / "below").open("w"),
    ):
        pass


def test_the_records_need_neither_torch_nor_ray():
    code = "import sys, hkbench.store.rundir; print({'torch', 'ray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
