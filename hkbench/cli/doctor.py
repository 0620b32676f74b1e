"""`hkbench doctor`: this machine as hkbench sees it, and how searches will use it."""

from collections.abc import Iterator
from typing import Annotated

import typer
from pydantic import TypeAdapter
from rich.table import Table
from rich.text import Text

from hkbench.benchmark.doctor import Diagnosis, PackingAdvice, diagnose
from hkbench.benchmark.machine import FEATURES, Folder
from hkbench.cli.console import out, print_json, progress
from hkbench.errors import IncompleteError

LIBRARIES = ("torch", "ray", "optuna", "onnxruntime")
LABEL_COLUMNS = 15

Lines = Iterator[tuple[str, str]]


def doctor(
    measure: Annotated[
        bool | None,
        typer.Option(
            "--measure/--no-measure",
            help="Measure how training is packed onto the cores again, or not at all. With neither, it is "
            "measured if it never was here (about 10 s).",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show this machine, how searches will use it, and what stands in the way.

    Example: hkbench doctor --measure
    """
    with progress("packing, windows measured") as advance:
        found = diagnose(measure=measure, advance=advance)
    if as_json:
        facts = TypeAdapter(Diagnosis).dump_python(found, mode="json")
        concerns = [{"problem": each.problem, "remedy": each.remedy} for each in found.concerns]
        print_json(facts | {"warnings": concerns})
    else:
        _print(found)
    if found.packing.failure is not None:
        raise IncompleteError(f"The packing couldn't be measured. {found.packing.failure}")


def _print(found: Diagnosis) -> None:
    _print_lines("Machine", _machine(found))
    _print_lines("Software", _software(found))
    _print_lines("Training on the CPU", _packing(found.packing))
    _print_lines("GPUs", _gpus(found))
    _print_lines("Can't be measured here", ((each.what, each.reason) for each in found.unmeasured))
    _print_concerns(found)


def _print_lines(title: str, lines: Lines) -> None:
    """Print a title and its lines in two columns, folded at the width of the terminal."""
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=LABEL_COLUMNS, overflow="fold")
    table.add_column(overflow="fold")
    for label, value in lines:
        table.add_row(Text(label), Text(value))
    if table.row_count:
        out.print(Text(title, style="bold"))
        out.print(table)


def _print_concerns(found: Diagnosis) -> None:
    table = Table.grid()
    table.add_column(width=2)
    table.add_column(overflow="fold")
    for concern in found.concerns:
        table.add_row("!", Text(concern.problem))
        table.add_row("", Text(f"→ {concern.remedy}"))
    out.print(Text("Warnings" if found.concerns else "No warnings", style="bold"))
    out.print(table)


def _machine(found: Diagnosis) -> Lines:
    cores, memory = found.cores, found.memory
    yield "processor", found.cpu.model
    if found.cpu.features is not None:
        yield "  has", ", ".join(found.cpu.features) or "none of " + ", ".join(FEATURES)
    counts = {
        "logical": cores.logical,
        "physical": cores.physical,
        "by affinity": cores.affinity,
        "by quota": cores.quota,
    }
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count is not None)
    yield "cores", f"{cores.usable} to use ({told})"
    busy = ", ".join(
        f"{process.name} ({process.pid}) {process.cores:.1f}" for process in found.neighbours.busiest
    )
    yield "  others take", f"{found.neighbours.cores:.2f} of them{': ' + busy if busy else ''}"
    limit = "" if memory.limit_bytes is None else f", {_giga(memory.limit_bytes)} by control group"
    yield "memory", f"{_giga(memory.available_bytes)} of {_giga(memory.total_bytes)} available{limit}"
    if found.shared_memory is not None:
        yield "shared memory", _free(found.shared_memory)
    yield "cache", f"{found.cache.path}"
    yield "", f"{(found.cache.size_bytes or 0) / 1e6:,.1f} MB in it, {_free(found.cache)}"


def _software(found: Diagnosis) -> Lines:
    yield "versions", ", ".join(f"{name} {found.versions.get(name, 'missing')}" for name in LIBRARIES)
    torch = found.torch
    variable = "" if torch.omp_num_threads is None else f" (OMP_NUM_THREADS={torch.omp_num_threads})"
    yield "torch", f"{torch.threads} threads by itself{variable}, {torch.vector_instructions} kernels"
    yield "C++ compiler", found.compiler or "none, so torch.compile can't be used on the CPU"


def _packing(packing: PackingAdvice) -> Lines:
    rows = () if packing.measurement is None else packing.measurement.rows
    for row in rows:
        if row.pictures_per_s is not None:
            used = (row.workers, row.threads) == (packing.workers, packing.threads)
            mark = "  ← used" if used else ""
            yield _packed(row.workers, row.threads), f"{row.pictures_per_s:>9,.0f} pictures/s{mark}"
    yield "searches use", f"{_packed(packing.workers, packing.threads)}: {packing.why}"


def _packed(workers: int, threads: int) -> str:
    return f"{workers} × {threads} thread{'s' if threads > 1 else ''}"


def _gpus(found: Diagnosis) -> Lines:
    if found.gpus.reason is not None:
        yield "none", found.gpus.reason
    for index, device in enumerate(found.gpus.devices):
        yield f"GPU {index}", f"{device.name or 'unknown'}, {device.uuid or 'no UUID'}"
        yield (
            "",
            f"{_giga(device.used_bytes)} of {_giga(device.memory_bytes)} in use, "
            f"driver {found.gpus.driver or 'unknown'}",
        )
    if found.gpus.devices and found.torch.cuda_reason is not None:
        yield "torch", found.torch.cuda_reason


def _giga(size_bytes: int | None) -> str:
    return "–" if size_bytes is None else f"{size_bytes / 1e9:,.1f} GB"


def _free(folder: Folder) -> str:
    return f"{_giga(folder.free_bytes)} of {_giga(folder.total_bytes)} free"
