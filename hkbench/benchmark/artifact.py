"""One artifact on one device at one batch, as a record: measured, or failed with its reason."""

from dataclasses import dataclass
from pathlib import Path

from hkbench.benchmark.devices import Device, Found, Missing, find, parse_device
from hkbench.benchmark.energy import why_no_energy
from hkbench.benchmark.isolate import RowFailure, measure_energy_isolated, measure_isolated
from hkbench.benchmark.jobs import EnergyResult, RowJob, RowResult
from hkbench.benchmark.runtimes import RUNTIMES
from hkbench.errors import UsageError, unknown
from hkbench.store.device_lock import LONGEST_WAIT_S, devices_of, warn_unlockable
from hkbench.store.digest import sha256_of
from hkbench.store.environment import now
from hkbench.store.records import BenchmarkRecord
from hkbench.telemetry.tally import ENERGY_SECONDS

DEFAULT_TIME_LIMIT_S = 2.0

OVERHEAD_S = 120.0
"""What a row's process may take beyond its time limit: start, loading, the cold call and the last one."""

BESIDE = "measured beside a training that did not pause for it"
"""The reason of a row whose figures are there, and higher than they would be alone."""


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

    Trainings on the machine pause meanwhile, as `store.device_lock` says.

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
    conditions = _conditions(device, batch, threads, time_limit_s)
    there = path.is_file()
    subject = Subject(
        model_id=path.stem if model_id is None else model_id,
        sha256=sha256_of(path) if there else None,
        size_bytes=file_bytes(path) if there else None,
        precision=precision,
    )
    return measure(path if there else Missing(reason=f"there is no file {path}"), subject, conditions)


def measure_energy(
    path: Path, *, device: str, threads: int = 1, seconds: float = ENERGY_SECONDS
) -> EnergyResult | RowFailure | Missing:
    """Measure what a picture, at batch 1, takes from a GPU's energy counter above what the idle GPU takes.

    In a process of its own, which rests for `seconds` and then calls the network for as long, while trainings
    on that GPU pause; nothing is written.

    Raises:
        UsageError: as `measure_artifact`.
    """
    conditions = _conditions(device, 1, threads, seconds)
    job = _job(path, conditions)
    if isinstance(job, Missing):
        return job
    if reason := why_no_energy(device):
        return Missing(reason=reason)
    asked = job.model_copy(update={"energy_seconds": seconds})
    return measure_energy_isolated(asked, timeout_s=2 * seconds + OVERHEAD_S + LONGEST_WAIT_S)


def measure(file: Path | Missing, subject: Subject, conditions: Conditions) -> BenchmarkRecord:
    """Measure the file of `subject` under `conditions`; what is missing makes a failed row."""
    row = _empty_row(subject, conditions)
    job = _job(file, conditions)
    result = job if isinstance(job, Missing) else _attempt(job)
    if not isinstance(result, RowResult):
        return row.model_copy(update={"reason": result.reason})
    found = dict(result)
    reason = None if found.pop("alone") else BESIDE
    return row.model_copy(update={"status": "ok", "reason": reason, **found})


def _attempt(job: RowJob) -> RowResult | RowFailure:
    devices = devices_of(job.device_uuid)
    warn_unlockable(devices)  # here, since the row's process has nobody to tell it to
    return measure_isolated(job, timeout_s=job.time_limit_s + OVERHEAD_S + len(devices) * LONGEST_WAIT_S)


def _conditions(device: str, batch: int, threads: int, time_limit_s: float) -> Conditions:
    parsed = parse_device(device)
    return Conditions(
        device=parsed, place=find(parsed), batch=batch, threads=threads, time_limit_s=time_limit_s
    )


def _job(file: Path | Missing, conditions: Conditions) -> RowJob | Missing:
    place = conditions.place
    if isinstance(file, Missing):
        return file
    if isinstance(place, Missing):
        return place
    if reason := RUNTIMES[conditions.runtime].missing(conditions.device):
        return Missing(reason=reason)
    return RowJob(
        path=file.resolve(),
        runtime=conditions.runtime,
        device=conditions.device.name,
        device_uuid=place.uuid,
        batch=conditions.batch,
        threads=conditions.threads,
        time_limit_s=conditions.time_limit_s,
    )


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
