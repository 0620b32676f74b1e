"""A folder of class folders, as a source."""

import hashlib
import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hkbench.data.source import Source
from hkbench.errors import UsageError

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
FEWEST_PICTURES = 3
"""In a class: one for each part of a split."""
SUBFOLDER = "subfolder"


@dataclass(frozen=True)
class FileReader:
    """Reads pictures of a folder by their place in `ids`."""

    folder: Path
    ids: tuple[str, ...]

    def __call__(self, index: int) -> bytes:
        """Return the bytes of one file."""
        return (self.folder / self.ids[index]).read_bytes()


def open_folder(folder: Path, group_by: str | None) -> Source:
    """Open `folder`: its sub-folders are the classes, the pictures in them, at any depth, are theirs.

    An id is the file's path below `folder`. Hidden files are no part of it.

    Raises:
        UsageError: fewer than 2 classes, a class with fewer than 3 pictures, or a `group_by` that is no
            pattern with one group or that a file doesn't match.
    """
    classes = _class_folders(folder)
    group_of = None if group_by is None else _grouping(group_by)
    ids: list[str] = []
    labels: list[int] = []
    for label, class_folder in enumerate(classes):
        found = _pictures(class_folder)
        ids += [path.relative_to(folder).as_posix() for path in found]
        labels += [label] * len(found)
    read = FileReader(folder=folder.resolve(), ids=tuple(ids))
    return Source(
        name=folder.resolve().name,
        classes=tuple(path.name for path in classes),
        ids=read.ids,
        labels=np.array(labels, dtype=np.int64),
        groups=None if group_of is None else tuple(map(group_of, ids)),
        fingerprint=_fingerprint(read),
        read=read,
    )


def _class_folders(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(found) < 2:
        names = f" ('{found[0].name}')" if found else ""
        raise UsageError(
            f"{folder} has {len(found)} class folder(s){names}; a data set is a folder with 2 or more, "
            "each with the pictures of the class it is named after. Name such a folder."
        )
    return found


def _pictures(class_folder: Path) -> list[Path]:
    """Return the pictures of one class, sorted by path."""
    below = (path.relative_to(class_folder) for path in class_folder.rglob("*") if path.is_file())
    files = sorted(path for path in below if not any(part.startswith(".") for part in path.parts))
    found = [class_folder / path for path in files if path.suffix.lower() in SUFFIXES]
    if len(found) < len(files):
        other = next(path for path in files if path.suffix.lower() not in SUFFIXES)
        log.warning(
            "%s: %d file(s) passed over, such as %s: not %s",
            class_folder, len(files) - len(found), other, ", ".join(sorted(SUFFIXES)),
        )  # fmt: skip
    if len(found) < FEWEST_PICTURES:
        raise UsageError(
            f"Class folder {class_folder} has {len(found) or 'no'} picture(s) "
            f"({', '.join(sorted(SUFFIXES))}); {FEWEST_PICTURES} or more are needed, for each part of the "
            "split needs one. Add pictures, or remove the folder."
        )
    return found


def _grouping(group_by: str) -> Callable[[str], str]:
    """Return the function from a picture's id to its group, which begins with its class."""
    if group_by == SUBFOLDER:
        return _subfolder
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise UsageError(
            f"--group-by '{group_by}' is neither '{SUBFOLDER}' nor a regular expression ({error}). "
            r"Write a pattern such as '(\w+?)_\d+'."
        ) from error
    if pattern.groups != 1:
        raise UsageError(
            f"--group-by '{group_by}' has {pattern.groups} capture groups and needs exactly 1, around the "
            r"product's name, as in '(\w+?)_\d+'."
        )

    def captured(picture_id: str) -> str:
        class_name, _, rest = picture_id.partition("/")
        match = pattern.match(rest.rpartition("/")[2])
        if match is None or match[1] is None:
            raise UsageError(
                f"--group-by '{group_by}' doesn't match the file name of {picture_id}, and every picture "
                "needs a group. Widen the pattern, or move the file away."
            )
        return f"{class_name}/{match[1]}"

    return captured


def _subfolder(picture_id: str) -> str:
    class_name, *between, _ = picture_id.split("/")
    if not between:
        raise UsageError(
            f"--group-by {SUBFOLDER} needs every picture in a sub-folder of its class folder, and "
            f"{picture_id} lies in the class folder itself. Move it, or use a pattern."
        )
    return f"{class_name}/{between[0]}"


def _fingerprint(read: FileReader) -> str:
    """Hash every path, which holds the class, and every file's bytes."""
    with ThreadPoolExecutor() as pool:  # reading waits for the disk, and hashlib lets other threads run
        hashes = pool.map(lambda index: hashlib.sha256(read(index)).digest(), range(len(read.ids)))
        digest = hashlib.sha256()
        for picture_id, content in zip(read.ids, hashes, strict=True):
            digest.update(picture_id.encode() + b"\0" + content)
    return digest.hexdigest()
