"""Optuna's journal file, to which entries that belong together are written at once."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock


class GroupingJournal(JournalFileBackend):
    """Each write waits for the disk, some milliseconds: a trial's end is one write and not three."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), lock_obj=JournalFileOpenLock(str(path)))
        self._held: list[dict[str, Any]] | None = None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write entries, or hold them back while a group is open."""
        if self._held is None:
            super().append_logs(logs)
        else:
            self._held += logs

    @contextmanager
    def group(self) -> Iterator[None]:
        """Hold back what is written meanwhile, and write it in the end; nothing of it after an error.

        What is held back can't be read yet.
        """
        self._held = []
        try:
            yield
            held = self._held
        finally:
            self._held = None
        super().append_logs(held)


def grouped(storage: BaseStorage) -> AbstractContextManager[None]:
    """Return the group of writes of a storage; one that can't group them writes each by itself."""
    backend = getattr(storage, "_backend", None)
    return backend.group() if isinstance(backend, GroupingJournal) else nullcontext()
