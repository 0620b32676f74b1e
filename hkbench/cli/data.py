"""`hkbench data`: what data sets there are, what is in one, and its decoded pictures."""

from dataclasses import asdict
from typing import Annotated

import typer

from hkbench.cli.console import out, print_json, progress
from hkbench.data.describe import BuiltStore, Description, describe, describe_store
from hkbench.data.sources import DATASETS, open_source
from hkbench.data.splits import SCHEMES
from hkbench.data.store import build_store, parse_sizes

app = typer.Typer(help="Look at data sets and decode their pictures.", no_args_is_help=True)

DataSet = Annotated[
    str,
    typer.Argument(
        metavar="NAME_OR_FOLDER", help="A name from 'hkbench data list', or a folder of class folders."
    ),
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        help="Which pictures of a folder show one product: 'subfolder' (of the class folder), or a regular "
        "expression with one capture group for the file name.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the data sets that have a name.

    Example: hkbench data list
    """
    if as_json:
        print_json({"datasets": sorted(DATASETS)})
        return
    for name in sorted(DATASETS):
        out.print(name, markup=False)


@app.command()
def info(
    dataset: DataSet,
    split: Annotated[
        str,
        typer.Option(metavar="|".join(SCHEMES), help="Deal out single pictures, or whole groups."),
    ] = "random",
    group_by: GroupBy = None,
    as_json: Json = False,
) -> None:
    """Show the classes, groups, split and stores of a data set.

    Example: hkbench data info goods69 --split by-group
    """
    found = describe(open_source(dataset, group_by), split)
    if as_json:
        print_json(asdict(found))
    else:
        _print_description(found)


@app.command()
def build(
    dataset: DataSet,
    size: Annotated[
        str,
        typer.Option(metavar="PIXELS", help="Sides to decode to; those of the demo's students and teacher."),
    ] = "56,96",
    group_by: GroupBy = None,
    as_json: Json = False,
) -> None:
    """Decode the pictures of a data set once, for all later searches.

    Example: hkbench data build goods69
    """
    sizes = parse_sizes(size)
    source = open_source(dataset, group_by)
    stores = []
    for side in sizes:
        with progress(f"decoding {source.name} at {side} px") as advance:
            stores.append(describe_store(build_store(source, side, advance=advance)))
    if as_json:
        print_json(
            {"name": source.name, "fingerprint": source.fingerprint, "stores": list(map(asdict, stores))}
        )
        return
    for store in stores:
        _print_store(store)


def _print_description(found: Description) -> None:
    rows = {
        "name": found.name,
        "fingerprint": found.fingerprint,
        "pictures": f"{found.pictures:,}",
        "classes": f"{len(found.classes)}",
        "smallest class": f"{found.smallest.name} ({found.smallest.pictures:,})",
        "largest class": f"{found.largest.name} ({found.largest.pictures:,})",
        "groups": "not known" if found.groups is None else f"{found.groups:,}",
        f"{found.scheme} split": found.split_hash[:12],
    }
    for part in found.parts:
        spread = f"{part.smallest_class_share:.1%} to {part.largest_class_share:.1%} of a class"
        rows[f"  {part.part}"] = f"{part.pictures:,} ({part.share:.1%}; {spread})"
    for label, value in rows.items():
        out.print(f"{label:<16}{value}", markup=False)
    for store in found.stores:
        _print_store(store)


def _print_store(store: BuiltStore) -> None:
    out.print(
        f"{store.size} px: {store.pictures:,} pictures, {store.size_bytes / 1e6:,.0f} MB, {store.path}",
        markup=False,
    )
    for name, reason in store.rejected:
        out.print(f"  rejected {name}: {reason}", markup=False)
