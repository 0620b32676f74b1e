"""Building picture stores: several sizes in one pass over the source, each whole or not at all."""

import io
import json
import logging
import shutil
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from filelock import FileLock

from hkbench.data.folder import FEWEST_PICTURES
from hkbench.data.source import Source
from hkbench.data.store import (
    LABELS,
    METADATA,
    NAMES,
    PictureStore,
    Rejected,
    StoreMetadata,
    data_folder,
    open_store,
    opened,
    store_key,
    store_path,
)
from hkbench.data.writer import PICTURES, PictureMaker, Reasons, pictures_layout, write_blocks
from hkbench.errors import HkbenchError, UsageError
from hkbench.store.atomic import explaining_full_disk, replacing, write_text
from hkbench.store.blocks import Advance, damage
from hkbench.store.journal import part_of

log = logging.getLogger(__name__)

SIDES = (8, 1024)
NAMED = 3
"""How many rejected pictures an error names."""


def parse_sizes(text: str) -> tuple[int, ...]:
    """Parse sides in pixels, such as "56,96", and return them in ascending order, each once.

    Raises:
        UsageError: something that isn't a whole number in range.
    """
    try:
        sizes = {int(word) for word in text.split(",")}
    except ValueError:
        raise UsageError(f"'{text}' is no list of sides in pixels. Write it as in --size 56,96.") from None
    for size in sizes:
        _check_size(size)
    return tuple(sorted(sizes))


def build_store(
    source: Source,
    size: int,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    advance: Advance | None = None,
    max_rejected: float = 0.05,
) -> PictureStore:
    """Return the store of `source` at `size` pixels a side: `build_stores` of one size."""
    (store,) = build_stores(
        source, (size,), cache=cache, workers=workers, advance=advance, max_rejected=max_rejected
    ).values()
    return store


def build_stores(
    source: Source,
    sizes: Sequence[int],
    *,
    cache: Path | None = None,
    workers: int | None = None,
    advance: Advance | None = None,
    max_rejected: float = 0.05,
) -> dict[int, PictureStore]:
    """Return the stores of `source` by size in pixels, ascending; missing ones are built in one pass.

    A store appears as a whole or not at all. Processes that want the same one wait for the first; what a
    build had done when it was killed, or ran out of disk, is taken up by the next. Stores that are there
    are checked against their checksums, and damaged ones are built again, with a warning.
    `cache` defaults to hkbench's cache folder, `workers` to what keeps all cores busy; `advance` is called
    with (pictures done, pictures in all); `max_rejected` is the share of bad pictures, in [0, 1], that is
    put up with.

    Raises:
        UsageError: a size out of range, too many bad pictures, or a class with too few good ones.
        UsageError: the disk is full.
        HkbenchError: a decoding process died, or stores of two sizes hold other pictures.
    """
    for size in sizes:
        _check_size(size)
    paths = {size: store_path(source, size, cache) for size in sorted(set(sizes))}
    found = {size: store for size, path in paths.items() if isinstance(store := _checked(path), PictureStore)}
    if len(found) < len(paths):
        with explaining_full_disk(data_folder(source, cache)), ExitStack() as locks:
            for size in paths.keys() - found.keys():
                paths[size].parent.mkdir(parents=True, exist_ok=True)
            for size in sorted(paths.keys() - found.keys()):  # in one order, or two processes may lock up
                locks.enter_context(FileLock(f"{paths[size]}.lock"))
            found |= _build_missing(
                source,
                {size: path for size, path in paths.items() if size not in found},
                workers,
                advance,
                max_rejected,
            )
    for store in found.values():
        _check_rejected(store.rejected, len(source.ids), max_rejected)
    _check_same_pictures(list(found.values()))
    return {size: found[size] for size in paths}


def _checked(path: Path) -> PictureStore | str:
    """Return the store at `path` if its checksums hold, else what is wrong with it."""
    store = opened(path)
    if isinstance(store, str):
        return store
    bad = damage(path / PICTURES, pictures_layout(len(store.labels), store.size))
    try:
        named = len(store.ids), len(store.groups or store.ids)
    except HkbenchError as error:
        return str(error)
    if named != (len(store.labels),) * 2:
        return f"{NAMES} names other pictures"
    return bad or store


def _build_missing(
    source: Source,
    paths: dict[int, Path],
    workers: int | None,
    advance: Advance | None,
    max_rejected: float,
) -> dict[int, PictureStore]:
    """Build each store beside its path and rename it. The caller holds the locks of the paths."""
    found, makers = {}, {}
    for size, path in paths.items():
        store = _checked(path)
        if isinstance(store, PictureStore):  # another process was faster
            found[size] = store
            continue
        if path.exists():
            log.warning("The picture store %s is damaged and is built again: %s", path, store)
            shutil.rmtree(part_of(path), ignore_errors=True)
            path.rename(part_of(path))  # its good blocks are taken up
        makers[size] = PictureMaker(part_of(path), len(source.ids), size)
    write_blocks(source, makers.values(), workers, advance)
    # A picture that is bad at one size is left out at all, for rows of all sizes are the same pictures.
    bad = {index: why for maker in makers.values() for index, why in maker.bad.items()}
    bad = dict(sorted(bad.items()))
    try:
        _check_pictures(source, bad, max_rejected)
    except UsageError:
        for size in makers:
            shutil.rmtree(part_of(paths[size]))
        raise
    for size, maker in makers.items():
        maker.finish(bad)
        _write_rest(part_of(paths[size]), source, size, bad)
        part_of(paths[size]).rename(paths[size])
    return found | {size: open_store(paths[size]) for size in makers}


def _write_rest(folder: Path, source: Source, size: int, bad: Reasons) -> None:
    """Write all of a store but its pictures."""
    kept = [index for index in range(len(source.ids)) if index not in bad]
    labels = io.BytesIO()
    np.save(labels, source.labels[kept].astype(np.int64))
    with replacing(folder / LABELS) as temporary:
        temporary.write_bytes(labels.getvalue())
    names = json.dumps(
        {
            "ids": [source.ids[index] for index in kept],
            "groups": None if source.groups is None else [source.groups[index] for index in kept],
        }
    )
    write_text(folder / NAMES, names)
    metadata = StoreMetadata(
        key=store_key(source, size),
        size=size,
        fingerprint=source.fingerprint,
        classes=source.classes,
        pictures=len(kept),
        rejected=_rejected(source, bad),
        labels_crc32=zlib.crc32(labels.getvalue()),
        names_crc32=zlib.crc32(names.encode()),
    )
    write_text(folder / METADATA, metadata.model_dump_json())


def _rejected(source: Source, bad: Reasons) -> Rejected:
    return tuple((source.ids[index], reason) for index, reason in bad.items())


def _check_pictures(source: Source, bad: Reasons, max_rejected: float) -> None:
    rejected = _rejected(source, bad)
    _check_rejected(rejected, len(source.ids), max_rejected)
    counts = np.bincount(np.delete(source.labels, list(bad)), minlength=len(source.classes))
    for name, count in zip(source.classes, counts.tolist(), strict=True):
        if count < FEWEST_PICTURES:
            raise UsageError(
                f"Class '{name}' has {count} usable picture(s) and needs {FEWEST_PICTURES}. "
                f"Rejected: {_named(rejected) or 'none'}. Add pictures of this class."
            )


def _check_same_pictures(stores: list[PictureStore]) -> None:
    """Refuse stores whose rows aren't the same pictures: one split holds for all sizes."""
    fewest = max(stores, key=lambda store: len(store.rejected))
    if any(store.names_crc32 != fewest.names_crc32 for store in stores):
        raise HkbenchError(
            f"The picture stores of {', '.join(f'{store.size} px' for store in stores)} don't hold the same "
            f"pictures: {_named(fewest.rejected)} could not be used when {fewest.path} was built. "
            "Remove that folder and run the command again."
        )


def _check_size(size: int) -> None:
    if not SIDES[0] <= size <= SIDES[1]:
        raise UsageError(f"A picture's side must lie in {SIDES[0]} to {SIDES[1]} px, not {size}.")


def _check_rejected(rejected: Rejected, total: int, limit: float) -> None:
    if len(rejected) > limit * total:
        raise UsageError(
            f"{len(rejected)} of {total} pictures can't be used, more than the {limit:.0%} that is put up "
            f"with: {_named(rejected)}. Mend or remove them."
        )


def _named(rejected: Rejected) -> str:
    named = "; ".join(f"{name} ({reason})" for name, reason in rejected[:NAMED])
    return named + (f"; and {len(rejected) - NAMED} more" if len(rejected) > NAMED else "")
