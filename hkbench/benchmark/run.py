"""Every model of a run directory on every device, at every batch."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path

from hkbench.benchmark.artifact import (
    DEFAULT_TIME_LIMIT_S,
    Conditions,
    Subject,
    file_bytes,
    measure,
)
from hkbench.benchmark.devices import Missing, find, parse_devices
from hkbench.errors import UsageError
from hkbench.store.digest import sha256_of
from hkbench.store.records import BenchmarkRecord, ModelRecord, TelemetryRecord
from hkbench.store.rundir import RunDirectory

log = logging.getLogger(__name__)

Resolve = Callable[[ModelRecord], Path | None]
"""Where the ONNX file of a model lies, None if it can't be had."""


def benchmark_run(
    run: RunDirectory,
    *,
    devices: Sequence[str],
    batches: Sequence[int] = (1,),
    threads: int = 1,
    time_limit_s: float = DEFAULT_TIME_LIMIT_S,
    resolve: Resolve | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> list[BenchmarkRecord]:
    """Measure every model of a run and append a record, and what taking it cost, for each row.

    A row that can't be measured (no such device, no file, another file than the run's, a crash) is a record
    with its reason, and a warning in the log.

    Args:
        run: with its models under `models/`.
        devices: names, such as `cpu` and `cuda:0`.
        batches: pictures a call, a row each.
        threads: of the runtime, within one call.
        time_limit_s: of sampling, for each row.
        resolve: gives the file of a model where the run directory doesn't hold it.
        advance: called with (rows done, rows in all).

    Raises:
        UsageError: the run has no models, a device's name isn't one, or a number is out of its range.
    """
    models = run.model_records()
    if not models:
        raise UsageError(f"{run.path} has no models to measure: let its search finish first.")
    conditions = _all_conditions(devices, batches, threads, time_limit_s)
    records: list[BenchmarkRecord] = []
    for model in models:
        file = _locate(run, model, resolve)
        subject = Subject(
            model_id=model.id,
            sha256=model.sha256,
            size_bytes=None if isinstance(file, Missing) else file_bytes(file),
            precision=model.precision,
        )
        for condition in conditions:
            record = measure(file, subject, condition)
            _keep(run, record)
            records.append(record)
            if advance is not None:
                advance(len(records), len(models) * len(conditions))
    _warn(records)
    return records


def parse_batches(numbers: Iterable[str]) -> tuple[int, ...]:
    """Read batch sizes, each once, in order.

    Raises:
        UsageError: one is no whole number of at least 1.
    """
    found = [number.strip() for number in numbers]
    for number in found:
        if not (number.isascii() and number.isdigit() and int(number) > 0):
            raise UsageError(
                f"'{number}' is not a batch. Expected whole numbers of at least 1, such as 1,32."
            )
    return tuple(dict.fromkeys(map(int, found)))


def _all_conditions(
    devices: Sequence[str], batches: Sequence[int], threads: int, time_limit_s: float
) -> list[Conditions]:
    places = {device: find(device) for device in parse_devices(devices)}
    return [
        Conditions(device=device, place=place, batch=batch, threads=threads, time_limit_s=time_limit_s)
        for (device, place), batch in product(places.items(), batches)
    ]


def _locate(run: RunDirectory, model: ModelRecord, resolve: Resolve | None) -> Path | Missing:
    """Return the file of the very artifact that `model` is, or why there is none."""
    name = model.files.get("onnx")
    path = None if name is None else run.models / model.id / name
    if (path is None or not path.is_file()) and resolve is not None:
        path = resolve(model) or path
    if path is None:
        return Missing(reason="the run names no ONNX file for this model: export it again")
    if not path.is_file():
        return Missing(reason=f"there is no file {path}: export the model again")
    found = sha256_of(path)
    if found != model.sha256:
        return Missing(
            reason=f"{path} is another file than the run's: expected SHA-256 {model.sha256[:12]}…, "
            f"found {found[:12]}…. Export the model again"
        )
    return path


def _keep(run: RunDirectory, record: BenchmarkRecord) -> None:
    run.append(record)
    if record.usage is not None:
        name = f"{record.model_id}, batch {record.batch}"
        run.append(TelemetryRecord(source="benchmark", name=name, usage=record.usage, device=record.device))


def _warn(records: list[BenchmarkRecord]) -> None:
    causes = Counter((record.device, record.reason) for record in records if record.status == "failed")
    for (device, reason), rows in causes.items():
        log.warning("%s: %s (%d of %d rows)", device, reason, rows, len(records))
