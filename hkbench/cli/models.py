"""`hkbench models`: which networks there are, and what each is before it is built."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hkbench.cli.console import out, print_json, print_table, progress

if TYPE_CHECKING:
    from hkbench.models.describe import ModelDescription

app = typer.Typer(help="Look at the networks that can be searched and trained.", no_args_is_help=True)

TaskOption = Annotated[
    str, typer.Option(help="What to count for: goods69 (69 classes, 64 px) or imagenet (1000, 224 px).")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
MISSING = "–"
WIDTH = 100
"""Columns of a terminal that the table needs; a narrower one breaks its lines."""


@app.command("list")
def list_(
    pattern: Annotated[
        str | None,
        typer.Argument(help="Names with * and ?; 'timm/*' and 'torchvision/*' look into these libraries."),
    ] = None,
    max_mb: Annotated[
        float | None, typer.Option(min=0, help="Only networks whose float32 weights take no more megabytes.")
    ] = None,
    task: TaskOption = "goods69",
    as_json: Json = False,
) -> None:
    """List networks with parameters, multiply-accumulates, bytes, picture sizes and weights.

    Example: hkbench models list --max-mb 5 --task imagenet
    """
    from hkbench.models.describe import describe_all, names

    with progress("counted") as advance:
        rows = describe_all(names(pattern), task, max_mb, advance)
    if as_json:
        print_json({"task": task, "models": [asdict(row) for row in rows]})
        return
    print_table(_table(rows), width=WIDTH)


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="A name from 'hkbench models list', timm/NAME or torchvision/NAME.")
    ],
    task: TaskOption = "goods69",
    as_json: Json = False,
) -> None:
    """Show all that is known of a network: its counts, its stages, its weights and where they come from.

    Example: hkbench models show densenet121
    """
    from hkbench.models.describe import describe

    row = describe(name, task)
    if as_json:
        print_json(asdict(row))
        return
    facts = {
        "network": f"{row.name}, {row.note}" if row.note else row.name,
        "source": row.source,
        "pictures": f"{row.smallest_image_size} px at least, {row.usual_image_size} px usual",
        "counted for": f"{row.classes} classes at {row.image_size} px",
        "parameters": f"{row.parameters:,}",
        "work": f"{row.macs:,} multiply-accumulates a picture ({2 * row.macs:,} FLOPs)",
        "weights, fp32": f"{row.fp32_bytes:,} bytes",
        "weights, int8": f"{row.int8_bytes:,} bytes",
        "ImageNet": _weights(row),
        "licence": row.licence or MISSING,
        "origin": row.origin or MISSING,
    }
    for label, value in facts.items():
        out.print(f"{label:<15}{value}", markup=False)
    for number, stage in enumerate(row.stages, start=1):
        out.print(f"{f'stage {number}':<15}{stage}", markup=False)


def _weights(row: "ModelDescription") -> str:
    if row.weights is None:
        return "no weights published"
    return f"{row.weights}, {'on this machine' if row.at_hand else 'not on this machine'}"


def _table(rows: "list[ModelDescription]") -> Table:
    table = Table(
        box=None,
        pad_edge=False,
        caption="M: millions; MB: of the weights, batch-norm folded. ✓: on this machine, ✗: to be fetched.",
        caption_justify="left",
    )
    table.add_column("network", no_wrap=True)
    for column in ("M params", "M MACs", "MB fp32", "MB int8", "px from"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("ImageNet weights", no_wrap=True)
    for row in rows:
        mark = MISSING if row.weights is None else f"{'✓' if row.at_hand else '✗'} {row.licence or ''}"
        table.add_row(
            row.name, f"{row.parameters / 1e6:.2f}", f"{row.macs / 1e6:.1f}", f"{row.fp32_bytes / 1e6:.2f}",
            f"{row.int8_bytes / 1e6:.2f}", str(row.smallest_image_size), mark,
        )  # fmt: skip
    return table
