"""The train, validation and test parts: computed from picture ids alone, and held to on later runs."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hkbench.data.store import PictureStore
from hkbench.errors import UsageError, unknown
from hkbench.store.atomic import write_text

Indices = NDArray[np.int64]

SCHEMES = ("random", "by-group")
PARTS = ("train", "validation", "test")
SHARES = (0.7, 0.2, 0.1)
SPLIT_SEED = 69
"""Fixed apart from a run's --seed: the shipped teacher has seen the train part of this very split."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Three disjoint parts that cover a store; each is int64, ascending, and has every class.

    `hash` names the split by the ids and labels in its parts, so it is the same for stores of any size.
    """

    scheme: str
    seed: int
    hash: str
    train: Indices
    validation: Indices
    test: Indices


@dataclass(frozen=True, kw_only=True)
class PartShare:
    """How much of the pictures one part really holds, as fractions: of all, and of single classes."""

    part: str
    pictures: int
    share: float
    smallest_class_share: float
    largest_class_share: float


def make_split(
    labels: Indices,
    groups: Sequence[str] | None,
    ids: Sequence[str],
    scheme: str = "random",
    seed: int = SPLIT_SEED,
    *,
    classes: Sequence[str],
) -> Split:
    """Split pictures 70/20/10, class by class.

    "random" deals single pictures, "by-group" whole groups, so that no product is in two parts. The order
    comes from a hash of (seed, name), not from a random stream: it holds for every version of numpy.

    Raises:
        UsageError: an unknown scheme; a class with fewer than 3 pictures; for "by-group", no groups, a
            class with fewer than 3 of them, or a group in two classes.
    """
    if scheme not in SCHEMES:
        raise unknown("split scheme", scheme, SCHEMES)
    if scheme == "by-group":
        units = _whole_groups(groups, labels, classes)
    else:
        units = _single_pictures(ids, labels, classes)
    parts: tuple[list[int], ...] = ([], [], [])
    for name, members in zip(classes, units, strict=True):
        if len(members) < len(PARTS):
            raise UsageError(_too_few(name, len(members), scheme))
        for part, dealt in zip(parts, _deal(members, seed), strict=True):
            part += dealt
    train, validation, test = (np.array(sorted(part), dtype=np.int64) for part in parts)
    return Split(
        scheme=scheme,
        seed=seed,
        hash=_hash((train, validation, test), labels, ids),
        train=train,
        validation=validation,
        test=test,
    )


def load_split(store: PictureStore, scheme: str, seed: int = SPLIT_SEED) -> Split:
    """Return the split of a store's pictures; the first call writes it down, later calls hold to it.

    The file lies beside the stores of the same pictures, so that all sizes share it.

    Raises:
        UsageError: as `make_split`; or the split isn't the one that was written down.
    """
    split = make_split(store.labels, store.groups, store.ids, scheme, seed, classes=store.classes)
    path = store.path.parent / f"split-{scheme}-{seed}.json"
    if not path.is_file():
        write_text(path, _to_json(split))
    found = _written_hash(path)
    if found != split.hash:
        raise UsageError(
            f"The {scheme} split of these pictures has hash {split.hash[:12]}, but {path} was written with "
            f"{found[:12] or 'none'}: other pictures were rejected, or another hkbench made it. Results on "
            "the two can't be compared. Delete that file to go on with the new split."
        )
    return split


def shares(split: Split, labels: Indices) -> tuple[PartShare, ...]:
    """Return the true share of each part, of all pictures and of the classes at either end."""
    per_class = np.bincount(labels)
    found = []
    for name, part in zip(PARTS, (split.train, split.validation, split.test), strict=True):
        of_class = np.bincount(labels[part], minlength=len(per_class)) / per_class
        found.append(
            PartShare(
                part=name,
                pictures=len(part),
                share=len(part) / len(labels),
                smallest_class_share=float(of_class.min()),
                largest_class_share=float(of_class.max()),
            )
        )
    return tuple(found)


def _deal(units: dict[str, list[int]], seed: int) -> tuple[list[int], list[int], list[int]]:
    """Deal named units of one class to the parts: each to the part that is furthest below its share.

    Large units go first, for small ones can even out what they leave. Sizes within a factor of two count
    as equal, or the largest products would all be trained on and none of them tested.
    """
    total = sum(len(members) for members in units.values())
    wanted = [share * total for share in SHARES]
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    order = sorted(units, key=lambda name: (-len(units[name]).bit_length(), _rank(seed, name)))
    for position, name in enumerate(order):
        empty = [part for part in range(len(PARTS)) if not parts[part]]
        open_to = empty if len(order) - position == len(empty) else range(len(PARTS))
        # Rounded, for 0.7 − 7 · 0.1 must be as empty as 0.2 − 2 · 0.1 on every machine.
        poorest = max(open_to, key=lambda part: round(wanted[part] - len(parts[part]), 6))
        parts[poorest].extend(units[name])
    return parts


def _single_pictures(
    ids: Sequence[str], labels: Indices, classes: Sequence[str]
) -> list[dict[str, list[int]]]:
    """Return each picture as a unit of its own, class by class."""
    units: list[dict[str, list[int]]] = [{} for _ in classes]
    for index, (name, label) in enumerate(zip(ids, labels.tolist(), strict=True)):
        units[label][name] = [index]
    return units


def _whole_groups(
    groups: Sequence[str] | None, labels: Indices, classes: Sequence[str]
) -> list[dict[str, list[int]]]:
    """Return the members of each group, class by class."""
    if groups is None:
        raise UsageError(
            "A split by group needs to know which pictures show the same product, and these pictures have "
            "no groups. Name them with --group-by subfolder or --group-by 'PATTERN', or use --split random."
        )
    units: list[dict[str, list[int]]] = [{} for _ in classes]
    home: dict[str, int] = {}
    for index, (group, label) in enumerate(zip(groups, labels.tolist(), strict=True)):
        if home.setdefault(group, label) != label:
            raise UsageError(
                f"Group '{group}' has pictures of '{classes[home[group]]}' and of '{classes[label]}'; a "
                "group is one product and belongs to one class. Give it one class, or use --split random."
            )
        units[label].setdefault(group, []).append(index)
    return units


def _too_few(name: str, found: int, scheme: str) -> str:
    if scheme == "by-group":
        return (
            f"Class '{name}' has {found} group(s); a split by group needs 3 or more, one for each part. "
            "Add products of this class, or use --split random."
        )
    return f"Class '{name}' has {found} picture(s); a split needs 3 or more. Add some, or remove the class."


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _hash(parts: Sequence[Indices], labels: Indices, ids: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name, part in zip(PARTS, parts, strict=True):
        rows = sorted([ids[index], int(labels[index])] for index in part)
        digest.update(json.dumps([name, rows]).encode())
    return digest.hexdigest()


def _to_json(split: Split) -> str:
    parts = {name: getattr(split, name).tolist() for name in PARTS}
    head = {"schema_version": 1, "scheme": split.scheme, "seed": split.seed, "hash": split.hash}
    return json.dumps({**head, **parts}) + "\n"


def _written_hash(path: Path) -> str:
    """Return the hash in a split's file, or nothing if the file is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return ""
    return str(found.get("hash", "")) if isinstance(found, dict) else ""


def shortened(split: Split, train_pictures: int | None) -> Split:
    """Return the split with a train part of at most so many pictures, evenly drawn."""
    if train_pictures is None or train_pictures >= len(split.train):
        return split
    kept = np.linspace(0, len(split.train) - 1, train_pictures).round().astype(np.int64)
    return Split(
        scheme=split.scheme,
        seed=split.seed,
        hash=hashlib.sha256(f"{split.hash} {train_pictures}".encode()).hexdigest(),
        train=split.train[kept],
        validation=split.validation,
        test=split.test,
    )
