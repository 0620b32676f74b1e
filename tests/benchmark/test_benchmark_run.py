"""A run's models on devices, and the command that measures them."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_onnx_file import write_onnx
from typer import Typer
from typer.testing import CliRunner

from hkbench.benchmark.run import benchmark_run, parse_batches
from hkbench.cli.benchmark import benchmark, peak_memory_bytes
from hkbench.errors import HkbenchError, IncompleteError, UsageError
from hkbench.store.records import BenchmarkRecord, ModelRecord, TelemetryRecord, Usage
from hkbench.store.rundir import RunDirectory

AddModel = Callable[..., ModelRecord]
LIMIT_S = 0.2

no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")

app = Typer()
app.command()(benchmark)


def no_file(path: Path) -> None:
    """Leave nothing."""


@no_cuda
def test_every_model_on_every_device_at_every_batch(
    run: RunDirectory, add_model: AddModel, caplog: pytest.LogCaptureFixture
) -> None:
    model = add_model("a")
    progress: list[tuple[int, int]] = []
    with caplog.at_level(logging.WARNING):
        rows = benchmark_run(
            run,
            devices=["cpu", "cuda"],
            batches=[1, 4],
            time_limit_s=LIMIT_S,
            advance=lambda done, total: progress.append((done, total)),
        )
    assert [(row.device, row.batch, row.status) for row in rows] == [
        ("cpu", 1, "ok"), ("cpu", 4, "ok"), ("cuda:0", 1, "failed"), ("cuda:0", 4, "failed"),
    ]  # fmt: skip
    assert {row.sha256 for row in rows} == {model.sha256}
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert run.read(BenchmarkRecord) == rows
    telemetry = run.read(TelemetryRecord)
    assert [(row.source, row.name, row.device) for row in telemetry] == [
        ("benchmark", "a, batch 1", "cpu"), ("benchmark", "a, batch 4", "cpu"),
    ]  # fmt: skip
    assert telemetry[0].usage == rows[0].usage
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("cuda:0: torch finds no CUDA device: ")
    assert caplog.messages[0].endswith("(2 of 4 rows)")


def test_models_that_can_t_be_measured_are_rows_with_reasons(run: RunDirectory, add_model: AddModel) -> None:
    add_model("a-good")
    add_model("b-broken", write=lambda path: path.write_bytes(b"not ONNX"))
    add_model("c-gone", write=no_file)
    add_model("d-other", sha256="f" * 64)
    good, broken, gone, other = benchmark_run(run, devices=["cpu"], time_limit_s=LIMIT_S)
    assert good.status == "ok"
    assert broken.reason is not None
    assert "Protobuf parsing failed" in broken.reason
    assert gone.reason is not None
    assert gone.reason.startswith("there is no file ")
    assert other.reason is not None
    assert "is another file than the run's: expected SHA-256 ffffffffffff…" in other.reason
    assert (other.sha256, other.size_bytes, other.p50_ms) == ("f" * 64, None, None)


def test_file_from_elsewhere_stands_in_only_if_it_is_the_same(
    run: RunDirectory, add_model: AddModel, tmp_path: Path
) -> None:
    elsewhere = write_onnx(tmp_path / "cache" / "model.onnx")
    model = add_model("a")
    (run.models / "a" / "model.onnx").unlink()
    (found,) = benchmark_run(run, devices=["cpu"], time_limit_s=LIMIT_S, resolve=lambda _: elsewhere)
    assert (found.status, found.sha256) == ("ok", model.sha256)
    write_onnx(elsewhere, batch=1)
    (refused,) = benchmark_run(run, devices=["cpu"], time_limit_s=LIMIT_S, resolve=lambda _: elsewhere)
    assert refused.reason is not None
    assert "is another file than the run's" in refused.reason
    (gone,) = benchmark_run(run, devices=["cpu"], time_limit_s=LIMIT_S, resolve=lambda _: None)
    assert gone.reason is not None
    assert gone.reason.startswith("there is no file ")


def test_model_that_names_no_onnx_file_is_a_row_with_its_reason(
    run: RunDirectory, add_model: AddModel
) -> None:
    run.write_model(add_model("a").model_copy(update={"files": {}}))
    (row,) = benchmark_run(run, devices=["cpu"], time_limit_s=LIMIT_S)
    assert (row.status, row.reason) == (
        "failed", "the run names no ONNX file for this model: export it again",
    )  # fmt: skip


def test_run_without_models_is_refused(run: RunDirectory) -> None:
    with pytest.raises(UsageError, match="has no models to measure"):
        benchmark_run(run, devices=["cpu"])


def test_bad_device_is_refused_before_anything_is_measured(run: RunDirectory, add_model: AddModel) -> None:
    add_model("a")
    with pytest.raises(UsageError, match="There is no device 'gpu'"):
        benchmark_run(run, devices=["cpu", "gpu"])
    assert run.read(BenchmarkRecord) == []


def test_batches_are_read_in_order_each_once() -> None:
    assert parse_batches(["1", " 32", "1"]) == (1, 32)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "x", "1,,2", "²"])
def test_what_is_no_batch_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a batch"):
        parse_batches(text.split(","))


def test_command_prints_a_table(run: RunDirectory, add_model: AddModel) -> None:
    add_model("lite0")
    done = CliRunner().invoke(app, [str(run.path), "--seconds", str(LIMIT_S)])
    assert done.exit_code == 0
    line = next(line for line in done.stdout.splitlines() if "lite0" in line)
    assert "student" in line
    assert "cpu" in line


@pytest.mark.parametrize(("device", "peak"), [("cpu", 7), ("cuda:0", 3)])
def test_peak_memory_is_that_of_the_device(device: str, peak: int) -> None:
    row = BenchmarkRecord(
        model_id="a", sha256=None, size_bytes=None, device=device, runtime="onnxruntime", precision="fp32",
        batch=1, status="ok", usage=Usage(seconds=1.0, peak_rss_bytes=7, peak_gpu_bytes=3), measured="now",
    )  # fmt: skip
    assert peak_memory_bytes(row) == peak
    assert peak_memory_bytes(row.model_copy(update={"usage": None})) is None


def test_command_prints_one_json_object(run: RunDirectory, add_model: AddModel) -> None:
    add_model("lite0")
    done = CliRunner().invoke(app, [str(run.path), "--batch", "1,2", "--seconds", str(LIMIT_S), "--json"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["run"] == str(run.path)
    assert [BenchmarkRecord.model_validate(row) for row in found["rows"]] == run.read(BenchmarkRecord)


@pytest.mark.parametrize(("flags", "exit_code"), [([], 3), (["--strict"], 1)])
def test_command_with_a_row_missing_shows_why(
    run: RunDirectory, add_model: AddModel, flags: list[str], exit_code: int
) -> None:
    add_model("gone", write=no_file)
    done = CliRunner().invoke(app, [str(run.path), "--seconds", str(LIMIT_S), *flags])
    assert isinstance(done.exception, HkbenchError)
    assert isinstance(done.exception, IncompleteError) == (not flags)
    assert done.exception.exit_code == exit_code
    assert "1 of 1 rows are missing" in str(done.exception)
    assert "– gone on cpu, batch 1: there is no file" in done.stdout


def test_command_refuses_what_is_no_run(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert "is not a run directory" in str(done.exception)


def test_help_shows_an_example() -> None:
    done = CliRunner().invoke(app, ["--help"])
    assert done.exit_code == 0
    assert "hkbench benchmark results/demo" in done.stdout
