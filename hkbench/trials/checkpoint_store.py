"""Where checkpoints lie: in a folder that every node sees, or in an object store such as S3."""

import os
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from hkbench.errors import UsageError
from hkbench.store.atomic import replacing
from hkbench.trials.patience import Patience

T = TypeVar("T")
Check = Callable[[], None]

OBJECT_STORES = ("s3://", "gs://")


@dataclass(frozen=True, kw_only=True)
class CheckpointStore:
    """Files under names, each there as a whole or not at all; small, and sent to workers.

    `where` is a folder's absolute path, or `s3://bucket/prefix` (also `gs://`) whose credentials the machine
    has. What is out of reach is tried again for half a minute.
    """

    where: str
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def at(cls, folder: Path) -> "CheckpointStore":
        """Return the store in a folder."""
        return cls(where=str(folder.resolve()))

    @property
    def folder(self) -> Path | None:
        """The folder, where it is one."""
        return None if self.where.startswith(OBJECT_STORES) else Path(self.where)

    def file(self, name: str) -> "Path | StoredFile":
        """Return one of the files by its name."""
        return StoredFile(store=self, name=name) if self.folder is None else self.folder / name

    def of_trial(self, number: int) -> "Path | StoredFile":
        """Return where a trial keeps its last epoch."""
        return self.file(f"{number:05d}.pt")

    def put(self, name: str, content: bytes | memoryview, check: Check | None = None) -> None:
        """Write a file, in place of one that is there.

        `check` is called when all is written, right before the file gets its name; what it raises is passed
        on, and the older file kept.

        Raises:
            UsageError: the disk is full.
            StorageError: the store stayed out of reach.
        """

        def write(file: Any) -> None:
            file.write(content)

        self._patiently(lambda: self._write(name, write, check))

    def put_file(self, name: str, path: Path) -> None:
        """Copy a file of this machine to the store; raises as `put` does."""

        def write(file: Any) -> None:
            with path.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 22)

        self._patiently(lambda: self._write(name, write, None))

    def get(self, name: str) -> bytes:
        """Read a file.

        Raises:
            FileNotFoundError: there is none of that name.
            StorageError: the store stayed out of reach.
        """
        found = self._patiently(lambda: _unless_missing(lambda: self._read(name)))
        if found is None:
            raise FileNotFoundError(f"{within(self.where, name)} isn't there")
        return found

    def get_file(self, name: str, path: Path) -> None:
        """Copy a file of the store to this machine, whole or not at all; raises as `get` does."""

        def copy() -> bool:
            with self._opened(name) as source, replacing(path) as temporary, temporary.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 22)
            return True

        if self._patiently(lambda: _unless_missing(copy)) is None:
            raise FileNotFoundError(f"{within(self.where, name)} isn't there")

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name.

        Raises:
            StorageError: the store stayed out of reach.
        """
        return self._patiently(lambda: self._exists(name))

    def clear(self, *patterns: str) -> None:
        """Remove the files whose names match.

        Raises:
            StorageError: the store stayed out of reach.
        """
        self._patiently(lambda: self._clear(patterns))

    def _patiently(self, call: Callable[[], T]) -> T:
        return Patience(self.where, mend=lambda: None, sleep=self.sleep)(call)

    def _write(self, name: str, write: Callable[[Any], None], check: Check | None) -> None:
        if self.folder is not None:
            with replacing(self.folder / name) as temporary:
                with temporary.open("wb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                if check is not None:
                    check()
            return
        filesystem, base = filesystem_of(self.where)
        # Beside it first: an object store completes what is cut off by an error as if it were whole.
        beside = f"{base}/.{name}.{socket.gethostname()}-{os.getpid()}.tmp"
        try:
            with filesystem.open_output_stream(beside) as stream:
                write(stream)
            if check is not None:
                check()
            filesystem.move(beside, f"{base}/{name}")
        except BaseException:
            with suppress(OSError):
                filesystem.delete_file(beside)
            raise

    def _opened(self, name: str) -> Any:
        if self.folder is not None:
            return (self.folder / name).open("rb")
        filesystem, base = filesystem_of(self.where)
        return filesystem.open_input_stream(f"{base}/{name}")

    def _read(self, name: str) -> bytes:
        with self._opened(name) as file:
            return bytes(file.read())

    def _exists(self, name: str) -> bool:
        if self.folder is not None:
            return (self.folder / name).exists()
        filesystem, base = filesystem_of(self.where)
        found = filesystem.get_file_info(f"{base}/{name}")
        return bool(found.is_file)

    def _clear(self, patterns: tuple[str, ...]) -> None:
        if self.folder is not None:
            for path in (path for pattern in patterns for path in self.folder.glob(pattern)):
                path.unlink(missing_ok=True)
            return
        from pyarrow.fs import FileSelector

        filesystem, base = filesystem_of(self.where)
        for found in filesystem.get_file_info(FileSelector(base, allow_not_found=True)):
            if any(fnmatch(found.base_name, pattern) for pattern in patterns):
                filesystem.delete_file(found.path)


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file of an object store, with what is asked of a `Path` where it is one of a folder."""

    store: CheckpointStore
    name: str

    def exists(self) -> bool:
        """Whether it is there."""
        return self.store.exists(self.name)

    def read_bytes(self) -> bytes:
        """Read it; raises as `CheckpointStore.get` does."""
        return self.store.get(self.name)

    def write(self, content: memoryview, check: Check | None) -> None:
        """Write it; raises as `CheckpointStore.put` does."""
        self.store.put(self.name, content, check)

    def __str__(self) -> str:
        return within(self.store.where, self.name)


def within(where: str, name: str) -> str:
    """Return the name of what lies within a folder or a prefix; a URL's options stay at its end."""
    path, mark, options = where.partition("?") if where.startswith(OBJECT_STORES) else (where, "", "")
    return f"{path}/{name}{mark}{options}"


def with_prefix(url: str) -> str:
    """Return a bucket's URL without a slash at the end of its path.

    Raises:
        UsageError: the path names nothing within the bucket.
    """
    path, mark, options = url.partition("?")
    path = path.rstrip("/")
    if "/" not in path.split("://", 1)[1]:
        whole = within(path + mark + options, "hkbench")
        raise UsageError(f"--storage {url} needs a prefix within the bucket, such as {whole}.")
    return path + mark + options


def _unless_missing(call: Callable[[], T]) -> T | None:
    """Return what `call` returns; None where the file isn't there, which waiting doesn't mend."""
    try:
        return call()
    except FileNotFoundError:
        return None


@cache
def filesystem_of(url: str) -> tuple[Any, str]:
    """Return pyarrow's filesystem for a URL, and the path in it.

    Raises:
        UsageError: it is no such URL.
    """
    from pyarrow import ArrowException
    from pyarrow.fs import FileSystem  # most workers have a folder, and are spared the memory

    try:
        filesystem, path = FileSystem.from_uri(with_prefix(url))
    except (ArrowException, ValueError) as error:
        raise UsageError(f"--storage {url} can't be used: {str(error).splitlines()[0]}.") from error
    return filesystem, path
