"""One artifact on one device at one batch, as a record: measured, or failed with its reason."""

from dataclasses import dataclass
from pathlib import Path

from hkbench.benchmark.devices import Device, Found, Missing, find, parse_device
from hkbench.benchmark.isolate import RowFailure, measure_isolated
from hkbench.benchmark.jobs import RowJob, RowResult
from hkbench.benchmark.runtimes import RUNTIMES
from hkbench.errors import UsageError, unknown
from hkbench.store.digest import sha256_of
from hkbench.store.environment import now
from hkbench.store.records import BenchmarkRecord

DEFAULT_TIME_LIMIT_S = 2.0

OVERHEAD_S = 120.0
"""What a row's process may take beyond its time limit: start, loading, the cold call and the last one."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What an artifact is measured under; `place` is what was found where `device` should be."""

    device: Device
    place: Found | Missing
    batch: int
    threads: int
    time_limit_s: float
    runtime: str = "onnxruntime"

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise unknown("runtime", self.runtime, RUNTIMES)
        if self.batch < 1 or self.threads < 1 or self.time_limit_s <= 0:
            raise UsageError(
                "A row needs a batch and threads of at least 1 and a time limit above 0, found "
                f"batch {self.batch}, threads {self.threads}, {self.time_limit_s:g} s."
            )


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The artifact of a row; `size_bytes` counts its weights file too, None if the artifact isn't there."""

    model_id: str
    sha256: str | None
    size_bytes: int | None
    precision: str


def measure_artifact(
    path: Path,
    *,
    device: str = "cpu",
    batch: int = 1,
    threads: int = 1,
    time_limit_s: float = DEFAULT_TIME_LIMIT_S,
    model_id: str | None = None,
    precision: str = "fp32",
) -> BenchmarkRecord:
    """Measure one ONNX file in a process of its own; nothing is written.

    Args:
        path: the file, with input `pictures` float32 (batch, 3, S, S) and output `logits`.
        device: `cpu`, `cuda` or `cuda:1`.
        batch: pictures a call.
        threads: of the runtime, within one call.
        time_limit_s: of sampling; a slow model may end with too few samples for a p90.
        model_id: what the record calls it, the file's stem by default.
        precision: what the record says of it.

    Raises:
        UsageError: `device` is no device's name, or a number is out of its range.
    """
    parsed = parse_device(device)
    conditions = Conditions(
        device=parsed, place=find(parsed), batch=batch, threads=threads, time_limit_s=time_limit_s
    )
    there = path.is_file()
    subject = Subject(
        model_id=path.stem if model_id is None else model_id,
        sha256=sha256_of(path) if there else None,
        size_bytes=file_bytes(path) if there else None,
        precision=precision,
    )
    return measure(path if there else Missing(reason=f"there is no file {path}"), subject, conditions)


def measure(file: Path | Missing, subject: Subject, conditions: Conditions) -> BenchmarkRecord:
    """Measure the file of `subject` under `conditions`; what is missing makes a failed row."""
    row = _empty_row(subject, conditions)
    result = _attempt(file, conditions)
    if isinstance(result, RowResult):
        return row.model_copy(update={"status": "ok", **dict(result)})
    return row.model_copy(update={"reason": result.reason})


def _attempt(file: Path | Missing, conditions: Conditions) -> RowResult | RowFailure | Missing:
    place = conditions.place
    if isinstance(file, Missing):
        return file
    if isinstance(place, Missing):
        return place
    if reason := RUNTIMES[conditions.runtime].missing(conditions.device):
        return Missing(reason=reason)
    job = RowJob(
        path=file.resolve(),
        runtime=conditions.runtime,
        device=conditions.device.name,
        device_uuid=place.uuid,
        batch=conditions.batch,
        threads=conditions.threads,
        time_limit_s=conditions.time_limit_s,
    )
    return measure_isolated(job, timeout_s=conditions.time_limit_s + OVERHEAD_S)


def _empty_row(subject: Subject, conditions: Conditions) -> BenchmarkRecord:
    found = conditions.place if isinstance(conditions.place, Found) else None
    return BenchmarkRecord(
        model_id=subject.model_id,
        sha256=subject.sha256,
        size_bytes=subject.size_bytes,
        device=conditions.device.name,
        device_model=found.model if found else None,
        device_uuid=found.uuid if found else None,
        runtime=conditions.runtime,
        precision=subject.precision,
        batch=conditions.batch,
        threads=conditions.threads,
        status="failed",
        measured=now(),
    )


def file_bytes(path: Path) -> int:
    """Return the bytes of an ONNX file, with those of the weights in a `.data` file beside it."""
    weights = path.with_name(path.name + ".data")
    return path.stat().st_size + (weights.stat().st_size if weights.is_file() else 0)
