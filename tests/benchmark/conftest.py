"""A small ONNX file and a run directory that holds it."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_onnx_file import SIZE, write_onnx

from hkbench.store.records import ModelRecord, RunRecord
from hkbench.store.rundir import RunDirectory


@pytest.fixture
def tiny_onnx(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "tiny.onnx")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    directory.write_run(
        RunRecord(
            name="run", kind="search", command=["hkbench", "search"], created="2026-11-24T12:00:00+00:00",
            status="finished", config={}, versions={}, hardware={},
        )
    )  # fmt: skip
    return directory


@pytest.fixture
def add_model(run: RunDirectory) -> Callable[..., ModelRecord]:
    """Put a model into the run: its record, and what `write` leaves as its ONNX file."""

    def add(
        name: str, write: Callable[[Path], object] = write_onnx, sha256: str | None = None
    ) -> ModelRecord:
        path = run.models / name / "model.onnx"
        path.parent.mkdir(parents=True)
        write(path)
        there = path.is_file()
        record = ModelRecord(
            id=name, role="student", model="tiny", image_size=SIZE, parameters=9,
            sha256=sha256 or (hashlib.sha256(path.read_bytes()).hexdigest() if there else "0" * 64),
            size_bytes=path.stat().st_size if there else 0, files={"onnx": "model.onnx"},
        )  # fmt: skip
        run.write_model(record)
        return record

    return add
