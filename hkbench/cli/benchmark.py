"""`hkbench benchmark`: measure a run's models on your devices."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from hkbench.benchmark.run import benchmark_run, parse_batches
from hkbench.cli.console import out, print_json, progress
from hkbench.errors import HkbenchError, IncompleteError
from hkbench.shipping.teacher_file import shipped_teacher_file
from hkbench.store.records import BenchmarkRecord, ModelRecord
from hkbench.store.rundir import RunDirectory

MISSING = "–"


def benchmark(
    run: Annotated[Path, typer.Argument(help="A run directory that 'hkbench search' has made.")],
    devices: Annotated[str, typer.Option(help="Where to run, such as cpu,cuda or cuda:1.")] = "cpu",
    batch: Annotated[str, typer.Option(help="Pictures a call, a row each.")] = "1",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime within one call.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="The longest that a row samples.")] = 10.0,
    strict: Annotated[bool, typer.Option("--strict", help="End with 1, not 3, if a row is missing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure size, latency and peak memory of a run's models, each row in a process of its own.

    A device that isn't there is a row with its reason. Rows are added to benchmark.jsonl.

    Example: hkbench benchmark results/demo --devices cpu,cuda --batch 1,32
    """
    directory = RunDirectory.open(run)
    with progress("measured") as advance:
        rows = benchmark_run(
            directory,
            devices=devices.split(","),
            batches=parse_batches(batch.split(",")),
            threads=threads,
            time_limit_s=seconds,
            resolve=shipped_teacher_file,
            advance=advance,
        )
    if as_json:
        print_json({"run": str(run), "rows": [row.model_dump(mode="json") for row in rows]})
    else:
        _print_table(rows, directory.model_records())
    _end(rows, strict)


def _print_table(rows: list[BenchmarkRecord], models: list[ModelRecord]) -> None:
    roles = {model.id: model.role for model in models}
    table = Table(
        caption="latencies in ms; peak memory in MB: on cuda of the GPU, on cpu of the row's process",
        caption_justify="left",
    )
    for name in ("model", "role", "device"):
        table.add_column(name)
    for name in ("batch", "MB", "p50", "p90", "cold", "peak memory"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row.model_id, roles[row.model_id], row.device, str(row.batch), _megabytes(row.size_bytes),
            _figure(row.p50_ms), _figure(row.p90_ms), _figure(row.cold_ms),
            _megabytes(peak_memory_bytes(row)),
        )  # fmt: skip
    out.print(table)
    for row in rows:
        if row.reason is not None:
            out.print(
                f"{MISSING} {row.model_id} on {row.device}, batch {row.batch}: {row.reason}", markup=False
            )


def peak_memory_bytes(row: BenchmarkRecord) -> int | None:
    """Return the most memory that a row took where it ran: the GPU's on cuda, else its process's."""
    if row.usage is None:
        return None
    return row.usage.peak_gpu_bytes if row.device.startswith("cuda") else row.usage.peak_rss_bytes


def _figure(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def _megabytes(size_bytes: int | None) -> str:
    return _figure(None if size_bytes is None else size_bytes / 1e6)


def _end(rows: list[BenchmarkRecord], strict: bool) -> None:
    failed = sum(row.status == "failed" for row in rows)
    if failed:
        kind = HkbenchError if strict else IncompleteError
        raise kind(f"{failed} of {len(rows)} rows are missing; their reasons are given with them.")
