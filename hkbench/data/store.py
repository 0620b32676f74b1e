"""The picture store: every picture decoded once, in one file that readers map instead of read."""

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hkbench.config import cache_dir
from hkbench.data.decode import DECODER
from hkbench.data.folder import FEWEST_PICTURES
from hkbench.data.source import Source
from hkbench.data.writer import write_pictures
from hkbench.errors import HkbenchError, UsageError
from hkbench.store.atomic import explaining_full_disk, write_text

log = logging.getLogger(__name__)

FORMAT = 1
PICTURES = "pictures.npy"
METADATA = "store.json"
SIDES = (8, 1024)
NAMED = 3
"""How many rejected pictures an error names."""

Rejected = tuple[tuple[str, str], ...]
"""(id, reason) of each picture that can't be used."""


class _Metadata(BaseModel):
    """`store.json`: all of a store but its pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = FORMAT
    key: str
    size: int
    fingerprint: str
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    groups: tuple[str, ...] | None
    rejected: Rejected


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureStore:
    """Decoded pictures on disk; pickling it sends its path only.

    `pictures` is uint8 (N, 3, size, size), mapped read-only; `labels` is int64 (N,); `ids` and `groups`
    have N entries too. `rejected` holds (id, reason) of each picture that isn't in it.
    """

    path: Path
    key: str
    size: int
    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...] | None
    rejected: Rejected
    fingerprint: str

    def __reduce__(self) -> tuple[Callable[[Path], "PictureStore"], tuple[Path]]:
        return open_store, (self.path,)


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
    advance: Callable[[int, int], None] | None = None,
    max_rejected: float = 0.05,
) -> PictureStore:
    """Return the store of `source` at `size` pixels a side, building it if it isn't there or is damaged.

    It appears as a whole or not at all, and processes that want the same one wait for the first.
    `cache` defaults to hkbench's cache folder, `workers` to one process for each core; `advance` is called
    with (done, total); `max_rejected` is the share of bad pictures, in [0, 1], that is put up with.

    Raises:
        UsageError: a size out of range, too many bad pictures, or a class with too few good ones.
        UsageError: the disk is full.
        HkbenchError: a decoding process died.
    """
    _check_size(size)
    path = store_path(source, size, cache)
    store = _find(path)
    if store is None:
        with explaining_full_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                store = _find(path) or _build(source, size, path, workers, advance, max_rejected)
    _check_rejected(store.rejected, len(source.ids), max_rejected)
    return store


def open_store(path: Path) -> PictureStore:
    """Open a store that was built, without reading its pictures.

    Raises:
        HkbenchError: there is none at `path`, or it is damaged.
    """
    try:
        metadata = _Metadata.model_validate_json((path / METADATA).read_bytes())
        pictures = np.load(path / PICTURES, mmap_mode="r", allow_pickle=False)
        shape = (len(metadata.ids), 3, metadata.size, metadata.size)
        if pictures.shape != shape or pictures.dtype != np.uint8:
            raise ValueError(f"{pictures.dtype} {pictures.shape} where uint8 {shape} belongs")
        if len(metadata.labels) != shape[0] or len(metadata.groups or metadata.ids) != shape[0]:
            raise ValueError(f"{METADATA} has labels or groups of other pictures")
        if (path / PICTURES).stat().st_size != pictures.offset + pictures.nbytes:
            raise ValueError(f"{PICTURES} has bytes that don't belong to it")
    except (OSError, EOFError, ValueError) as error:
        raise HkbenchError(
            f"The picture store {path} is missing or damaged ({str(error).splitlines()[0]}). "
            "Build it with 'hkbench data build'."
        ) from error
    return PictureStore(
        path=path,
        key=metadata.key,
        size=metadata.size,
        pictures=pictures,
        labels=np.array(metadata.labels, dtype=np.int64),
        classes=metadata.classes,
        ids=metadata.ids,
        groups=metadata.groups,
        rejected=metadata.rejected,
        fingerprint=metadata.fingerprint,
    )


def built_stores(source: Source, cache: Path | None = None) -> tuple[PictureStore, ...]:
    """Return the stores of `source` that are there and whole, smallest first."""
    paths = [path.parent for path in _data_folder(source, cache).glob(f"*/{METADATA}")]
    found = (_find(path) for path in paths if not path.name.startswith("."))
    return tuple(sorted((store for store in found if store), key=lambda store: store.size))


def store_path(source: Source, size: int, cache: Path | None = None) -> Path:
    """Return where the store of `source` at `size` lies: a folder for the data, within it one for the key."""
    return _data_folder(source, cache) / f"{size}px-{_key(source, size)[:16]}"


def _data_folder(source: Source, cache: Path | None) -> Path:
    """Return the folder of one data set: stores of all sizes and, beside them, its splits."""
    named = _hash(source.fingerprint, *(source.groups or ()))
    return (cache or cache_dir()) / "pictures" / named[:16]


def _key(source: Source, size: int) -> str:
    return _hash(source.fingerprint, *(source.groups or ()), str(size), DECODER, str(FORMAT))


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _find(path: Path) -> PictureStore | None:
    """Return the store at `path`; None if there is none, or a damaged one."""
    try:
        return open_store(path)
    except HkbenchError as error:
        log.debug("%s", error)
        return None


def _build(
    source: Source,
    size: int,
    path: Path,
    workers: int | None,
    advance: Callable[[int, int], None] | None,
    max_rejected: float,
) -> PictureStore:
    """Build a store beside `path` and rename it. The caller holds the lock of `path`."""
    if path.exists():
        log.warning("The picture store %s is damaged and is built again", path)
    for leftover in path.parent.glob(f".{path.name}-*"):  # of a build that was killed
        shutil.rmtree(leftover)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        bad = write_pictures(temporary / PICTURES, source, size, workers, advance)
        metadata = _metadata(source, size, bad)
        _check_rejected(metadata.rejected, len(source.ids), max_rejected)
        _check_classes(metadata)
        write_text(temporary / METADATA, metadata.model_dump_json())
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return open_store(path)


def _metadata(source: Source, size: int, bad: dict[int, str]) -> _Metadata:
    kept = [index for index in range(len(source.ids)) if index not in bad]
    return _Metadata(
        key=_key(source, size),
        size=size,
        fingerprint=source.fingerprint,
        classes=source.classes,
        ids=tuple(source.ids[index] for index in kept),
        labels=tuple(source.labels[kept].tolist()),
        groups=None if source.groups is None else tuple(source.groups[index] for index in kept),
        rejected=tuple((source.ids[index], reason) for index, reason in bad.items()),
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


def _check_classes(metadata: _Metadata) -> None:
    counts = np.bincount(np.array(metadata.labels, dtype=np.int64), minlength=len(metadata.classes))
    for name, count in zip(metadata.classes, counts.tolist(), strict=True):
        if count < FEWEST_PICTURES:
            raise UsageError(
                f"Class '{name}' has {count} usable picture(s) and needs {FEWEST_PICTURES}. "
                f"Rejected: {_named(metadata.rejected) or 'none'}. Add pictures of this class."
            )


def _named(rejected: Rejected) -> str:
    named = "; ".join(f"{name} ({reason})" for name, reason in rejected[:NAMED])
    return named + (f"; and {len(rejected) - NAMED} more" if len(rejected) > NAMED else "")
