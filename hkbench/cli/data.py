"""`hkbench data`: what data sets there are, what is in one, and its decoded pictures."""

import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from hkbench.cli.console import out, print_json, progress
from hkbench.config import cache_dir
from hkbench.data.build import build_stores, parse_sizes
from hkbench.data.describe import BuiltStore, Description, describe, describe_store
from hkbench.data.sources import DATASETS, open_source
from hkbench.data.splits import SCHEMES
from hkbench.store.cache import Entry, entries, parse_age, parse_bytes
from hkbench.store.cache import prune as prune_cache

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
    label = " and ".join(map(str, sizes))
    with progress(f"decoding {source.name} at {label} px") as advance:
        built = build_stores(source, sizes, advance=advance)
    stores = [describe_store(store) for store in built.values()]
    if as_json:
        print_json(
            {"name": source.name, "fingerprint": source.fingerprint, "stores": list(map(asdict, stores))}
        )
        return
    for store in stores:
        _print_store(store)


@app.command()
def prune(
    older_than: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Remove what wasn't used for so long, such as 12h or 30d."),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Remove the least recently used until the cache is no larger, such as 20GB. Teachers cost "
            "most to make: they go when nothing else is left to remove.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Clean the cache of pictures, logits, views, features, splits, teachers and costs.

    Without an age or a size it shows what the cache holds. What was used within the last hour or is being
    made stays; leftovers of killed commands go after a day. All that goes can be made again.

    Example: hkbench data prune --older-than 30d --max-size 20GB
    """
    cache = cache_dir()
    if older_than is None and max_size is None:
        _print_cache(entries(cache), as_json)
        return
    done = prune_cache(
        cache,
        older_than_s=None if older_than is None else parse_age(older_than),
        max_bytes=None if max_size is None else parse_bytes(max_size),
        dry_run=dry_run,
    )
    if as_json:
        found = {"removed": list(map(_row, done.removed)), "kept": list(map(_row, done.kept))}
        print_json({"cache": str(cache), "dry_run": dry_run, **found})
        return
    for entry in done.removed:
        out.print(_line(entry), markup=False)
    freed, left = (sum(entry.size_bytes for entry in group) for group in (done.removed, done.kept))
    verb = "would be removed" if dry_run else "removed"
    out.print(f"{len(done.removed)} {verb}, {freed / 1e6:,.1f} MB; {left / 1e6:,.1f} MB left in {cache}")


def _print_cache(found: list[Entry], as_json: bool) -> None:
    if as_json:
        print_json(
            {"cache": str(cache_dir()), "dry_run": True, "removed": [], "kept": list(map(_row, found))}
        )
        return
    for entry in found:
        out.print(_line(entry), markup=False)
    total = sum(entry.size_bytes for entry in found)
    out.print(
        f"{total / 1e6:,.1f} MB in {cache_dir()}. To clean it, say how: --older-than 30d, --max-size 20GB.",
        markup=False,
    )


def _row(entry: Entry) -> dict[str, Any]:
    return asdict(entry) | {"path": str(entry.path)}


def _line(entry: Entry) -> str:
    days = max(0.0, time.time() - entry.used) / 86_400
    kind = f"{entry.kind}, unfinished" if entry.leftover else entry.kind
    return f"{kind:<20}{entry.size_bytes / 1e6:>12,.1f} MB  used {days:.1f} days ago  {entry.path}"


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
