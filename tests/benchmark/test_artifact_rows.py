"""Rows of one artifact, each through a real process of its own."""

import hashlib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tiny_onnx_file import write_onnx

from hkbench.benchmark.artifact import BESIDE, measure_artifact
from hkbench.benchmark.isolate import RowFailure, measure_isolated
from hkbench.benchmark.jobs import RowJob, RowResult
from hkbench.errors import UsageError
from hkbench.store.device_lock import DeviceShare, devices_of

LIMIT_S = 0.2
IMPATIENT = """
from hkbench.store import device_lock
device_lock.alone_on.__wrapped__.__kwdefaults__["batch_s"] = 0.05
"""


def job(path: Path, **changes: object) -> RowJob:
    fields = {
        "path": path, "runtime": "onnxruntime", "device": "cpu", "device_uuid": None, "batch": 1,
        "threads": 1, "time_limit_s": LIMIT_S,
    }  # fmt: skip
    return RowJob.model_validate(fields | changes)


def at_start(folder: Path, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every new Python process run `program` first."""
    (folder / "sitecustomize.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_row_on_the_cpu(tiny_onnx: Path) -> None:
    row = measure_artifact(tiny_onnx, batch=2, time_limit_s=LIMIT_S)
    assert row.status == "ok"
    assert row.reason is None
    assert (row.model_id, row.device, row.batch, row.threads) == ("tiny", "cpu", 2, 1)
    assert row.sha256 == hashlib.sha256(tiny_onnx.read_bytes()).hexdigest()
    assert row.size_bytes == tiny_onnx.stat().st_size
    assert row.device_model
    assert row.samples >= 64
    assert row.load_ms is not None
    assert row.cold_ms is not None
    assert row.p50_ms is not None
    assert row.p90_ms is not None
    assert 0 < row.p50_ms <= row.p90_ms
    assert row.usage is not None
    assert row.usage.cpu_seconds is not None
    assert row.usage.peak_rss_bytes is not None
    assert row.usage.gpu_seconds is None
    assert row.usage.gpu_reason == "the work was given no GPU"


def test_peak_memory_is_the_row_s_own(tiny_onnx: Path) -> None:
    ballast = b"x" * (600 << 20)
    row = measure_artifact(tiny_onnx, time_limit_s=LIMIT_S)
    assert row.usage is not None
    assert row.usage.peak_rss_bytes is not None
    assert row.usage.peak_rss_bytes < len(ballast)


def test_trainings_pause_while_a_row_is_measured(tiny_onnx: Path) -> None:
    share = DeviceShare(devices_of(None))
    with ThreadPoolExecutor(1) as elsewhere, share:
        row = elsewhere.submit(measure_artifact, tiny_onnx, time_limit_s=1.0)
        while not row.done():
            share.pause()
            time.sleep(0.001)
    found = row.result()
    assert (found.status, found.reason) == ("ok", None)
    # Its samples alone take half a second, whatever else there is.
    assert time.perf_counter() - share.clock() >= 0.5


def test_row_beside_a_training_that_does_not_pause_says_so(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_start(tmp_path, IMPATIENT, monkeypatch)
    with DeviceShare(devices_of(None)), ThreadPoolExecutor(1) as elsewhere:
        row = elsewhere.submit(measure_artifact, tiny_onnx, time_limit_s=LIMIT_S).result()
    assert row.status == "ok"
    assert row.p50_ms is not None
    assert row.reason == BESIDE


def test_weights_beside_the_file_count_as_its_size(tiny_onnx: Path) -> None:
    tiny_onnx.with_name("tiny.onnx.data").write_bytes(b"x" * 1000)
    row = measure_artifact(tiny_onnx, time_limit_s=LIMIT_S)
    assert row.size_bytes == tiny_onnx.stat().st_size + 1000


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_device_that_is_not_there_is_a_row_with_its_reason(tiny_onnx: Path) -> None:
    row = measure_artifact(tiny_onnx, device="cuda", time_limit_s=LIMIT_S)
    assert (row.status, row.device) == ("failed", "cuda:0")
    assert row.reason is not None
    assert row.reason.startswith("torch finds no CUDA device: ")
    assert row.p50_ms is None
    assert row.samples == 0
    assert row.size_bytes == tiny_onnx.stat().st_size


def test_file_that_is_not_there_is_a_row_with_its_reason(tmp_path: Path) -> None:
    row = measure_artifact(tmp_path / "gone.onnx")
    assert (row.status, row.reason) == ("failed", f"there is no file {tmp_path / 'gone.onnx'}")
    assert row.sha256 is None
    assert row.size_bytes is None


def test_broken_file_is_a_row_with_the_runtime_s_words(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not an ONNX file")
    row = measure_artifact(path, time_limit_s=LIMIT_S)
    assert row.status == "failed"
    assert row.reason is not None
    assert "Protobuf parsing failed" in row.reason
    assert "\n" not in row.reason


def test_file_with_other_inputs_is_a_row_that_says_what_it_has(tmp_path: Path) -> None:
    row = measure_artifact(write_onnx(tmp_path / "other.onnx", input_name="images"), time_limit_s=LIMIT_S)
    assert row.status == "failed"
    assert row.reason is not None
    assert "expected one input 'pictures'" in row.reason
    assert "images" in row.reason


def test_file_for_another_batch_is_a_row_with_its_reason(tmp_path: Path) -> None:
    fixed = write_onnx(tmp_path / "fixed.onnx", batch=1)
    assert measure_artifact(fixed, batch=1, time_limit_s=LIMIT_S).status == "ok"
    row = measure_artifact(fixed, batch=4, time_limit_s=LIMIT_S)
    assert row.status == "failed"
    assert row.reason is not None
    assert "Got: 4 Expected: 1" in row.reason


@pytest.mark.parametrize("numbers", [{"batch": 0}, {"threads": 0}, {"time_limit_s": 0.0}])
def test_numbers_out_of_range_are_refused(tiny_onnx: Path, numbers: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="batch and threads of at least 1"):
        measure_artifact(tiny_onnx, **numbers)  # type: ignore[arg-type]


def test_crash_is_a_row_that_names_the_signal(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_start(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", monkeypatch)
    row = measure_artifact(tiny_onnx, time_limit_s=LIMIT_S)
    assert (row.status, row.reason) == ("failed", "the row's process was ended by SIGSEGV")


def test_process_that_hangs_is_stopped(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_start(tmp_path, "import signal; signal.pause()", monkeypatch)
    found = measure_isolated(job(tiny_onnx), timeout_s=0.5)
    assert found == RowFailure(reason="the row's process was stopped after 0.5 s")


def test_process_that_ends_without_a_word(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_start(tmp_path, "import os; os._exit(7)", monkeypatch)
    found = measure_isolated(job(tiny_onnx), timeout_s=30)
    assert found == RowFailure(reason="the row's process ended with exit code 7")
    at_start(tmp_path, "import os; os._exit(0)", monkeypatch)
    found = measure_isolated(job(tiny_onnx), timeout_s=30)
    assert isinstance(found, RowFailure)
    assert found.reason.startswith("the row's process gave no result: ")


def test_what_libraries_print_does_not_spoil_the_result(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = "import atexit, os; atexit.register(os.write, 1, b'from a library in C')"
    at_start(tmp_path, noise, monkeypatch)
    assert isinstance(measure_isolated(job(tiny_onnx), timeout_s=30), RowResult)


def test_file_of_the_working_directory_does_not_pass_for_a_library(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny_onnx.parent / "onnxruntime.py").write_text("raise RuntimeError('the wrong one')")
    monkeypatch.chdir(tiny_onnx.parent)
    assert isinstance(measure_isolated(job(tiny_onnx), timeout_s=30), RowResult)


def test_threads_reach_the_libraries_of_the_row(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_start(tmp_path, "import os, sys; sys.exit('OMP ' + os.environ['OMP_NUM_THREADS'])", monkeypatch)
    found = measure_isolated(job(tiny_onnx, threads=3), timeout_s=30)
    assert isinstance(found, RowFailure)
    assert found.reason.endswith("OMP 3")


def test_row_on_the_cpu_starts_without_torch(tiny_onnx: Path) -> None:
    program = (
        "import sys; from hkbench.benchmark.worker import main; main(); "
        "sys.exit(', '.join(name for name in ('torch', 'onnx', 'ray') if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=job(tiny_onnx).model_dump_json(),
        capture_output=True,
        text=True,
    )
    assert done.stderr.strip() == ""
    assert RowResult.model_validate_json(done.stdout).samples > 0
