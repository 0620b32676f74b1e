"""The cache folder: what is in it, when it was last used, and its cleaning by age and size.

Everything there can be made again, except weights that a user has brought; those are never touched.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from hkbench.errors import UsageError

log = logging.getLogger(__name__)

KINDS = {
    "pictures": "*/*px-*",
    "logits": "*",
    "rendered": "*",
    "features": "*",
    "views": "*",
    "splits": "*",
    "costs": "*",
    "packing": "*",
    "teachers": "*",
}
"""Folder of the cache → where its entries lie. Teachers cost most to make."""
TEACHERS = "teachers"
STAMP = ".used"
COMPANIONS = (STAMP, ".lock", ".blocks", ".part", ".tmp")
"""What lies beside an entry and is none itself."""
IN_USE_S = 3_600.0
LEFTOVER_S = 86_400.0
UNITS_S = {"m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
UNITS_BYTES = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A folder or file of the cache with all that belongs to it; `used` is a Unix time in seconds.

    `leftover` is what a killed command left unfinished.
    """

    path: Path
    kind: str
    size_bytes: int
    used: float
    leftover: bool


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was removed, least recently used first, and what is left."""

    removed: tuple[Entry, ...]
    kept: tuple[Entry, ...]


Kept = TypeVar("Kept", bound=BaseModel)


def key_of(*parts: Any) -> str:
    """Return the name under which something is kept: a hash of all that it depends on, values of JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def read_kept(path: Path, kind: type[Kept]) -> Kept | None:
    """Return a measurement kept as JSON; None if there is none or, with a warning, a damaged one."""
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValidationError, UnicodeDecodeError) as error:
        log.warning("%s is damaged and is measured again: %s", path, str(error).splitlines()[0])
        return None


def touch(path: Path) -> None:
    """Note that an entry is used now. Where the cache can't be written to, nothing is noted."""
    with suppress(OSError):
        _stamp(path).touch()


def entries(cache: Path) -> list[Entry]:
    """Return what is in the cache folder, least recently used first."""
    found = []
    for kind, pattern in KINDS.items():
        paths = list((cache / kind).glob(pattern))
        found += [_entry(path, kind, leftover=False) for path in paths if not _is_companion(path)]
        found += [_entry(path, kind, leftover=True) for path in paths if _is_leftover(path)]
    return sorted(found, key=lambda entry: (entry.used, entry.path))


def prune(
    cache: Path,
    *,
    older_than_s: float | None = None,
    max_bytes: int | None = None,
    dry_run: bool = False,
    now: float | None = None,
) -> Pruned:
    """Remove what was last used before `older_than_s` ago, then the least recently used down to `max_bytes`.

    To keep to `max_bytes`, teachers go when nothing else is left. What was used within the last hour, or is
    being made, stays. Leftovers of killed commands go once they are a day old.

    Args:
        cache: the cache folder.
        older_than_s: an age in seconds.
        max_bytes: what the cache may hold.
        dry_run: say what would be removed, and remove nothing.
        now: the present Unix time.
    """
    now = time.time() if now is None else now
    found = entries(cache)
    left = sum(entry.size_bytes for entry in found)
    removed = []
    for entry in sorted(found, key=lambda entry: (entry.kind == TEACHERS, entry.used)):
        age = now - entry.used
        too_old = age > LEFTOVER_S if entry.leftover else older_than_s is not None and age > older_than_s
        too_much = max_bytes is not None and left > max_bytes and not entry.leftover
        if age > IN_USE_S and (too_old or too_much) and _remove(entry, now, dry_run):
            removed.append(entry)
            left -= entry.size_bytes
    gone = {entry.path for entry in removed}
    return Pruned(
        removed=tuple(sorted(removed, key=lambda entry: entry.used)),
        kept=tuple(entry for entry in found if entry.path not in gone),
    )


def parse_age(text: str) -> float:
    """Return the seconds of an age such as `12h` or `30d`.

    Raises:
        UsageError: it is no such text.
    """
    number, unit = _measure(text, UNITS_S)
    if number is None:
        raise UsageError(f"An age is a number with {_listed(UNITS_S)}, such as 30d; found '{text}'.")
    return number * UNITS_S[unit]


def parse_bytes(text: str) -> int:
    """Return the bytes of a size such as `500MB` or `20GB`.

    Raises:
        UsageError: it is no such text.
    """
    number, unit = _measure(text, UNITS_BYTES)
    if number is None:
        raise UsageError(f"A size is a number with {_listed(UNITS_BYTES)}, such as 20GB; found '{text}'.")
    return int(number * UNITS_BYTES[unit])


def _measure(text: str, units: dict[str, int]) -> tuple[float | None, str]:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", text.strip(), re.ASCII)
    if found is None or found[2] not in units:
        return None, ""
    return float(found[1]), found[2]


def _listed(units: dict[str, int]) -> str:
    *first, last = units
    return f"{', '.join(first)} or {last}"


def _stamp(path: Path) -> Path:
    return path / STAMP if path.is_dir() else path.with_name(path.name + STAMP)


def _is_companion(path: Path) -> bool:
    return path.suffix in COMPANIONS or path.name.startswith(".")


def _is_leftover(path: Path) -> bool:
    if path.suffix == ".blocks" or path.suffix == STAMP:  # of an entry, or of one under way, or of nothing
        base = path.with_suffix("")
        return not base.exists() and not base.with_name(base.name + ".part").exists()
    return path.suffix in (".part", ".tmp") or path.name.startswith(".")


def _belonging(path: Path) -> list[Path]:
    """Return the paths of an entry: itself, its stamp and its checksums."""
    base = path.with_suffix("") if path.suffix == ".part" else path
    beside = [base.with_name(base.name + suffix) for suffix in (STAMP, ".blocks")]
    return [path, *(other for other in beside if other != path and other.exists())]


def _entry(path: Path, kind: str, *, leftover: bool) -> Entry:
    size_bytes, used = 0, 0.0
    for file in _files(path):
        with suppress(FileNotFoundError):  # finished or removed at this moment
            found = file.stat()
            # A file under way is longer than what is written of it.
            size_bytes += min(found.st_size, getattr(found, "st_blocks", found.st_size) * 512)
            used = max(used, found.st_mtime)
    return Entry(path=path, kind=kind, size_bytes=size_bytes, used=used, leftover=leftover)


def _files(path: Path) -> Iterator[Path]:
    for each in _belonging(path):
        yield each
        if each.is_dir():
            yield from each.rglob("*")


def _remove(entry: Entry, now: float, dry_run: bool) -> bool:
    """Remove an entry unless somebody makes it, or has used it since; return whether it is gone."""
    with _locked(entry.path) as free:
        again = _entry(entry.path, entry.kind, leftover=entry.leftover)
        if not free or now - again.used <= IN_USE_S:
            return False
        if not dry_run:
            for path in _belonging(entry.path):
                _remove_path(path)
    return True


def _remove_path(path: Path) -> None:
    if path.is_dir():
        # Out of the way at once, so that nobody finds half of it.
        doomed = path.with_name(f".{path.name}.{os.getpid()}.pruned")
        path.replace(doomed)
        shutil.rmtree(doomed)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold the lock of an entry's maker; yield False if somebody else does. Locks themselves stay."""
    base = path.with_suffix("") if path.suffix in (".part", ".blocks") else path
    lock = base.with_name(base.name + ".lock")
    existed = lock.exists()
    if not existed:  # nothing that is made under a lock
        yield True
        return
    try:
        with FileLock(lock, timeout=0):
            yield True
    except Timeout:
        yield False
