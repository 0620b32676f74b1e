"""How long a shipped file takes, in its record: from a row that is there, or one that is measured now."""

from hkbench.benchmark.artifact import Conditions, Subject, measure
from hkbench.benchmark.devices import find, parse_device
from hkbench.store.environment import cpu_model
from hkbench.store.records import BenchmarkRecord, ModelRecord
from hkbench.store.rundir import RunDirectory

SECONDS = 2.0


def with_latency(run: RunDirectory, record: ModelRecord) -> ModelRecord:
    """Return, and keep, the record with its file's latency on this machine's CPU, batch 1, one thread."""
    if record.verified is None or record.verified.latency_device == cpu_model():
        return record
    row = next((row for row in reversed(run.read(BenchmarkRecord)) if _fits(row, record)), None)
    return note_latency(run, record, row or _measured(run, record))


def note_latency(run: RunDirectory, record: ModelRecord, row: BenchmarkRecord) -> ModelRecord:
    """Return, and keep, the record with the latency of a row."""
    if record.verified is None:
        return record
    found = {"latency_ms": row.p50_ms, "latency_device": row.device_model}
    noted = record.model_copy(update={"verified": record.verified.model_copy(update=found)})
    run.write_model(noted)
    return noted


def _fits(row: BenchmarkRecord, record: ModelRecord) -> bool:
    same = (row.sha256, row.device, row.batch, row.threads) == (record.sha256, "cpu", 1, 1)
    return same and row.status == "ok" and row.device_model == cpu_model()


def _measured(run: RunDirectory, record: ModelRecord) -> BenchmarkRecord:
    """Measure the file in a process of its own, and keep the row."""
    device = parse_device("cpu")
    row = measure(
        run.onnx_file(record),
        Subject(
            model_id=record.id,
            sha256=record.sha256,
            size_bytes=record.size_bytes,
            precision=record.precision,
        ),
        Conditions(device=device, place=find(device), batch=1, threads=1, time_limit_s=SECONDS),
    )
    run.append(row)
    return row
