"""What there is to say about a data set before anything is trained on it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hkbench.data.source import Source
from hkbench.data.splits import PartShare, make_split, shares
from hkbench.data.store import PictureStore, built_stores


@dataclass(frozen=True, kw_only=True)
class ClassCount:
    """A class and the number of its pictures."""

    name: str
    pictures: int


@dataclass(frozen=True, kw_only=True)
class BuiltStore:
    """A store on this machine: `size` in pixels, `rejected` as (id, reason)."""

    path: str
    size: int
    pictures: int
    size_bytes: int
    rejected: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Description:
    """Counts, split and stores of a data set; `groups` is None where groups aren't known."""

    name: str
    fingerprint: str
    pictures: int
    classes: tuple[ClassCount, ...]
    smallest: ClassCount
    largest: ClassCount
    groups: int | None
    scheme: str
    split_hash: str
    parts: tuple[PartShare, ...]
    stores: tuple[BuiltStore, ...]


def describe(source: Source, scheme: str, cache: Path | None = None) -> Description:
    """Describe `source`; once a store is built, its split leaves out what the store rejected.

    Raises:
        UsageError: the pictures can't be split by `scheme`.
    """
    counts = np.bincount(source.labels, minlength=len(source.classes))
    classes = tuple(
        ClassCount(name=name, pictures=int(count)) for name, count in zip(source.classes, counts, strict=True)
    )
    stores = built_stores(source, cache)
    kept = stores[0] if stores else source
    split = make_split(kept.labels, kept.groups, kept.ids, scheme, classes=kept.classes)
    return Description(
        name=source.name,
        fingerprint=source.fingerprint,
        pictures=len(source.ids),
        classes=classes,
        smallest=min(classes, key=lambda count: count.pictures),
        largest=max(classes, key=lambda count: count.pictures),
        groups=None if source.groups is None else len(set(source.groups)),
        scheme=scheme,
        split_hash=split.hash,
        parts=shares(split, kept.labels),
        stores=tuple(map(describe_store, stores)),
    )


def describe_store(store: PictureStore) -> BuiltStore:
    """Describe a store that is there."""
    return BuiltStore(
        path=str(store.path),
        size=store.size,
        pictures=len(store.labels),
        size_bytes=store.pictures.nbytes,
        rejected=store.rejected,
    )
