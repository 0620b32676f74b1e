"""What trials share comes to each node once: built there from the pictures, or fetched from the storage.

The driver makes everything under its own cache folder, and tells workers paths. On another machine these
aren't there. Names in the cache are hashes of what they hold, so the same name under the worker's own cache
folder is the same thing: pictures and rendered views, which are large, are made there from the source; the
split, the views and the teachers' logits are fetched.
"""

import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from hkbench.config import cache_dir
from hkbench.data.build import build_stores
from hkbench.data.sources import open_source
from hkbench.errors import HkbenchError
from hkbench.store.journal import journal_of
from hkbench.training.rendered import rendered_views
from hkbench.trials.checkpoint_store import CheckpointStore
from hkbench.trials.shared import SharedData

log = logging.getLogger(__name__)

PREFIX = "shared-"
"""What the names of fetched files begin with, beside those of the checkpoints."""


class ArrivalError(HkbenchError):
    """A node that can't have the data that the search trains on."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """From where a node gets what trials share; small, and sent to the workers.

    `cache` is the driver's cache folder. `data` and `group_by` name the pictures as the search did: a folder
    must lie at the same path on every node. `fingerprint` is that of the driver's pictures.
    """

    cache: Path
    data: str
    group_by: str | None
    fingerprint: str
    storage: CheckpointStore


def hand_over(shared: SharedData, origin: Origin) -> None:
    """Put what is fetched by other nodes into the storage, unless it is there.

    Raises:
        StorageError: it stayed out of reach.
    """
    for path in _fetched(shared):
        for each in _with_journal(path):
            if not origin.storage.exists(PREFIX + each.name):
                origin.storage.put_file(PREFIX + each.name, each)


def ensure_here(shared: SharedData, origin: Origin) -> SharedData:
    """Return what trials share as paths of this machine, where all of it lies afterwards.

    The first worker of a node makes it, others wait. What is in the cache from an earlier search is taken.

    Raises:
        ArrivalError: the pictures here aren't the driver's, or can't be opened.
        HkbenchError: the disk is full, or the storage can't be reached.
    """
    here = _moved(shared, origin.cache)
    if all(path.exists() for path in _needed(here)):
        return here
    lock = cache_dir() / "arrivals" / f"{origin.fingerprint[:16]}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        _fetch(here, origin)
        _build(here, origin)
        return _with_rendered(here)


def _needed(shared: SharedData) -> Iterator[Path]:
    yield from (*shared.stores.values(), *shared.rendered.values(), *_fetched(shared))


def _fetched(shared: SharedData) -> list[Path]:
    maybe = (shared.split, shared.views.parameters, shared.views.partners, shared.teacher_logits)
    return [path for path in maybe if path is not None]


def _with_journal(path: Path) -> list[Path]:
    """Return a file with that of its checksums, which comes first: an array without them is none."""
    journal = journal_of(path)
    return [journal, path] if journal.exists() else [path]


def _moved(shared: SharedData, cache: Path) -> SharedData:
    """Return the same names under this machine's cache; of the teachers, those that are here."""

    def moved(path: Path) -> Path:
        return cache_dir() / path.relative_to(cache)

    views = shared.views
    return replace(
        shared,
        stores={size: moved(path) for size, path in shared.stores.items()},
        split=moved(shared.split),
        views=replace(
            views,
            parameters=moved(views.parameters),
            partners=moved(views.partners) if views.partners is not None else None,
        ),
        rendered={size: moved(path) for size, path in shared.rendered.items()},
        teachers=[path for path in shared.teachers if path.exists()],
        teacher_logits=moved(shared.teacher_logits) if shared.teacher_logits is not None else None,
    )


def _fetch(here: SharedData, origin: Origin) -> None:
    """Copy the files that aren't here from the storage."""
    for path in _fetched(here):
        if path.exists():
            continue
        for each in (journal_of(path), path):
            try:
                origin.storage.get_file(PREFIX + each.name, each)
            except FileNotFoundError as error:
                if each == path:
                    raise ArrivalError(
                        f"{socket.gethostname()} finds no {PREFIX}{each.name} in {origin.storage.where}: "
                        "every node must see the same --storage, or the run directory at the same path."
                    ) from error


def _build(here: SharedData, origin: Origin) -> None:
    """Decode the pictures here, unless all stores are there; they must be the driver's."""
    if all(path.exists() for path in here.stores.values()):
        return
    host = socket.gethostname()
    log.warning("%s builds its own store of %s", host, origin.data)
    try:
        source = open_source(origin.data, origin.group_by)
    except HkbenchError as error:
        raise ArrivalError(
            f"{host} can't open the pictures: {error} They must lie at the same path on every node."
        ) from error
    if source.fingerprint != origin.fingerprint:
        raise ArrivalError(
            f"The pictures of {origin.data} on {host} aren't the driver's: their hash is "
            f"{source.fingerprint[:12]}, the driver's {origin.fingerprint[:12]}. Copy them there again."
        )
    built = build_stores(source, sorted(here.stores))
    for size, path in here.stores.items():
        if built[size].path != path:
            raise ArrivalError(
                f"{host} decodes pictures by another version of hkbench or Pillow: its store is "
                f"{built[size].path.name}, the driver's {path.name}. Install the same versions on all nodes."
            )


def _with_rendered(here: SharedData) -> SharedData:
    """Render views ahead for the sizes for which the driver did; where there is no room, trials render."""
    plain = replace(here, rendered={})
    opened = [plain.open(size) for size in sorted(here.rendered)]
    if not opened:
        return plain
    stores = [each.store for each in opened]
    return replace(here, rendered=rendered_views(stores, opened[0].split, opened[0].table))
