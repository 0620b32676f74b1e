"""The shipped teacher, exported for a run that was kept without its file."""

import logging
from pathlib import Path

import pytest

from hkbench.export.onnx import export_onnx
from hkbench.shipping.facts import metadata_of
from hkbench.shipping.teacher_file import shipped_teacher_file
from hkbench.store.records import ModelRecord
from hkbench.training.teacher import load_teacher, shipped_folder


def model_record(sha256: str, **changes: object) -> ModelRecord:
    fields = {
        "id": "teacher", "role": "teacher", "model": "efficientnet_lite0", "image_size": 96,
        "parameters": 1, "sha256": sha256, "size_bytes": 1,
    }  # fmt: skip
    return ModelRecord.model_validate(fields | changes)


@pytest.fixture
def teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a cache of this test's own that the files go to."""
    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path))
    return tmp_path / "teachers"


def test_the_very_file_of_a_run_is_made_again_and_kept(teachers: Path, tmp_path: Path) -> None:
    (folder,) = shipped_folder().glob("*/")
    teacher = load_teacher(folder, shipped=True)
    exported = export_onnx(
        teacher.network(), tmp_path / "of-a-run.onnx", image_size=96, labels=teacher.record.classes,
        metadata=metadata_of(model_record(""), teacher.record.split_hash),
    )  # fmt: skip
    path = shipped_teacher_file(model_record(exported.sha256))
    assert path == teachers / f"{exported.sha256}.onnx"
    assert path.read_bytes() == exported.path.read_bytes()
    written = path.stat().st_mtime_ns
    assert shipped_teacher_file(model_record(exported.sha256)) == path
    assert path.stat().st_mtime_ns == written
    assert list(teachers.iterdir()) == [path]


def test_another_file_than_the_run_s_is_told_and_not_kept(
    teachers: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert shipped_teacher_file(model_record("f" * 64)) is None
    assert "comes out as another file than the run's: expected SHA-256 ffffffffffff…" in caplog.text
    assert list(teachers.iterdir()) == []


@pytest.mark.parametrize("changes", [{"role": "student"}, {"model": "household_s"}, {"image_size": 64}])
def test_other_models_are_not_shipped(teachers: Path, changes: dict[str, object]) -> None:
    assert shipped_teacher_file(model_record("f" * 64, **changes)) is None
    assert not teachers.exists()
