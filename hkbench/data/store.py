"""The picture store: every picture decoded once, in one file that readers map instead of read.

It is built in `data.build`.
"""

import hashlib
import io
import logging
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hkbench.config import cache_dir
from hkbench.data.decode import DECODER
from hkbench.data.source import Source
from hkbench.data.writer import PICTURES
from hkbench.errors import HkbenchError
from hkbench.store.blocks import open_blocks
from hkbench.store.cache import touch

log = logging.getLogger(__name__)

FORMAT: Final = 2
METADATA = "store.json"
LABELS = "labels.npy"
NAMES = "names.json"

Rejected = tuple[tuple[str, str], ...]
"""(id, reason) of each picture that can't be used."""


class StoreMetadata(BaseModel):
    """`store.json`: what a store is, and the checksums of its small files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[2] = FORMAT
    key: str
    size: int
    fingerprint: str
    classes: tuple[str, ...]
    pictures: int
    rejected: Rejected
    labels_crc32: int
    names_crc32: int


class _Names(BaseModel):
    """`names.json`: read only when somebody asks for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: tuple[str, ...]
    groups: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureStore:
    """Decoded pictures on disk; pickling it sends its path only.

    `pictures` is uint8 (N, 3, size, size), mapped read-only; `labels` is int64 (N,); `ids` and `groups`
    have N entries too, and are read when they are first asked for. `rejected` holds (id, reason) of each
    picture that isn't in it.
    """

    path: Path
    key: str
    size: int
    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    rejected: Rejected
    fingerprint: str
    names_crc32: int = field(repr=False)

    @property
    def ids(self) -> tuple[str, ...]:
        """The pictures' names in their source.

        Raises:
            HkbenchError: the file of names is damaged.
        """
        return self._names.ids

    @property
    def groups(self) -> tuple[str, ...] | None:
        """The product that each picture shows, None where that isn't known.

        Raises:
            HkbenchError: the file of names is damaged.
        """
        return self._names.groups

    @cached_property
    def _names(self) -> _Names:
        try:
            content = (self.path / NAMES).read_bytes()
            if zlib.crc32(content) != self.names_crc32:
                raise ValueError(f"{NAMES} has another checksum")
            return _Names.model_validate_json(content)
        except (OSError, ValueError) as error:
            raise _unusable(self.path, error) from error

    def __reduce__(self) -> tuple[Callable[[Path], "PictureStore"], tuple[Path]]:
        return open_store, (self.path,)


def open_store(path: Path) -> PictureStore:
    """Open a store that was built; of its pictures, only the first and last block are read.

    Raises:
        HkbenchError: there is none at `path`, or it is damaged.
    """
    try:
        metadata = StoreMetadata.model_validate_json((path / METADATA).read_bytes())
        labels = _read_labels(path / LABELS, metadata.labels_crc32)
        pictures = open_blocks(path / PICTURES)
        shape = (metadata.pictures, 3, metadata.size, metadata.size)
        if pictures.shape != shape or pictures.dtype != np.uint8:
            raise ValueError(f"{pictures.dtype} {pictures.shape} where uint8 {shape} belongs")
        if labels.shape != shape[:1]:
            raise ValueError(f"{LABELS} has labels of other pictures")
    except (OSError, EOFError, ValueError, HkbenchError) as error:
        raise _unusable(path, error.__cause__ or error) from error
    touch(path)
    return PictureStore(
        path=path,
        key=metadata.key,
        size=metadata.size,
        pictures=pictures,
        labels=labels,
        classes=metadata.classes,
        rejected=metadata.rejected,
        fingerprint=metadata.fingerprint,
        names_crc32=metadata.names_crc32,
    )


def _read_labels(path: Path, checksum: int) -> NDArray[np.int64]:
    content = path.read_bytes()
    if zlib.crc32(content) != checksum:
        raise ValueError(f"{LABELS} has another checksum")
    labels: NDArray[np.int64] = np.load(io.BytesIO(content), allow_pickle=False)
    return labels


def _unusable(path: Path, reason: BaseException) -> HkbenchError:
    return HkbenchError(
        f"The picture store {path} is missing or damaged ({str(reason).splitlines()[0]}). "
        "Build it with 'hkbench data build'."
    )


def built_stores(source: Source, cache: Path | None = None) -> tuple[PictureStore, ...]:
    """Return the stores of `source` that are there and whole, smallest first."""
    paths = [path.parent for path in data_folder(source, cache).glob(f"*px-*/{METADATA}")]
    found = [opened(path) for path in paths if path.suffix != ".part"]
    whole = [store for store in found if isinstance(store, PictureStore)]
    return tuple(sorted(whole, key=lambda store: store.size))


def store_path(source: Source, size: int, cache: Path | None = None) -> Path:
    """Return where the store of `source` at `size` lies: a folder for the data, within it one for the key."""
    return data_folder(source, cache) / f"{size}px-{store_key(source, size)[:16]}"


def data_folder(source: Source, cache: Path | None) -> Path:
    """Return the folder of one data set: stores of all sizes and, beside them, its splits."""
    named = _hash(source.fingerprint, *(source.groups or ()))
    return (cache or cache_dir()) / "pictures" / named[:16]


def store_key(source: Source, size: int) -> str:
    """Return the hash of all that the pixels of a store depend on."""
    return _hash(source.fingerprint, *(source.groups or ()), str(size), DECODER, str(FORMAT))


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def opened(path: Path) -> PictureStore | str:
    """Return the store at `path`, or what is wrong with it."""
    try:
        return open_store(path)
    except HkbenchError as error:
        log.debug("%s", error)
        return str(error)
