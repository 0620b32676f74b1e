"""`hkbench export`: parse, export, show what lies where."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hkbench.cli.console import out, print_json, print_table, progress_phases
from hkbench.store.records import ModelRecord

if TYPE_CHECKING:
    from hkbench.shipping.export import Exported, Request

MISSING = "–"
WIDTH = 92


def export(
    run: Annotated[Path, typer.Argument(help="A run directory that 'hkbench search' or 'train' has made.")],
    pick: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="Let a rule choose: smallest-at 0.80 or fastest-at 0.80 (accuracy on validation), "
            "best-under 500kB, best-within 2ms."
        ),
    ] = None,
    trial: Annotated[int | None, typer.Option(help="Export this trial.", min=0)] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="One or several of fp32, int8, fp16 (for GPUs) and w8 (8-bit weights, computed in float32); "
            "the first is what --pick goes by."
        ),
    ] = "fp32",
    out_path: Annotated[
        Path | None,
        typer.Option("--out", help="A folder, or a file ending in .zip; by default RUN/export/NAME."),
    ] = None,
    test: Annotated[
        bool,
        typer.Option("--test", help="Score the files on the test part too: once, as a study's last step."),
    ] = False,
    tune: Annotated[
        bool,
        typer.Option(
            help="Train on with int8's rounding simulated where int8 would lose more than half a point."
        ),
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Export a network of a run as ONNX files that were checked, scored and measured themselves.

    int8 is tried in several ways; of those that lose at most half a point of accuracy on validation,
    the fastest on this machine is taken.

    Example: hkbench export results/demo --pick smallest-at 0.80 --precision int8 --out goods.zip
    """
    # What quantises and trains is imported when it is needed: torch takes seconds, --help has none to give.
    from hkbench.shipping.export import Request, planned
    from hkbench.shipping.export import export as run_export
    from hkbench.study.storage import RunStorage

    request = Request(
        run=run,
        trial=trial,
        pick=pick,
        precisions=tuple(name.strip() for name in precision.split(",")),
        out=out_path,
        read_test=test,
        tuned=tune,
        checkpoint_of=lambda number: RunStorage.checkpoints_of(run).of_trial(number),
    )
    if dry_run:
        print_json(planned(request))
        return
    with progress_phases() as listener:
        exported = run_export(request, listener)
    _show(exported, request, json_=json_)


def _show(exported: "Exported", request: "Request", *, json_: bool) -> None:
    if json_:
        print_json(
            {
                "bundle": str(exported.bundle.path),
                "files": exported.bundle.files,
                "picked": request.how,
                "models": [record.model_dump(mode="json") for record in exported.records],
            }
        )
        return
    print_table(_table(exported.records), width=WIDTH)
    for record in exported.records:
        for line in _remarks(record):
            out.print(line, markup=False)
    out.print(f"Bundle: {exported.bundle.path} ({', '.join(exported.bundle.files)})", markup=False)


def _table(records: list[ModelRecord]) -> Table:
    table = Table(title=f"{records[0].model}, {records[0].image_size} px", title_justify="left")
    for name in ("file", "precision", "kB", "validation", "lost", "test", "latency p50"):
        table.add_column(name, justify="left" if name in ("file", "precision") else "right")
    for record in records:
        verified, test = record.verified, record.part("test")
        latency = verified.latency_ms if verified is not None else None
        table.add_row(
            record.id,
            record.precision,
            f"{record.size_bytes / 1e3:,.1f}",
            f"{record.accuracy('validation'):.1%}",
            MISSING if record.lost is None else f"{record.lost.estimate * 100:.2f} points",
            MISSING if test is None else f"{test.metrics['accuracy']:.1%}",
            MISSING if latency is None else f"{latency:.2f} ms",
        )
    return table


def _remarks(record: ModelRecord) -> list[str]:
    """Say what a table has no column for."""
    found = []
    if record.unpacked_bytes is not None:
        found.append(
            f"{record.id}: {record.size_bytes / 1e3:,.1f} kB in the file, "
            f"{record.unpacked_bytes / 1e3:,.1f} kB of weights once it is open"
        )
    if record.quantization is not None:
        chosen, tried = record.quantization, len(record.quantization.tried)
        trained = f", trained on for {chosen.tuned_epochs} epochs" if chosen.tuned_epochs else ""
        found.append(f"{record.id}: {chosen.label}, the best of {tried} recipes tried{trained}")
    return found
