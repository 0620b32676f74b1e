"""Large arrays on disk, made block by block: a kill costs a block, damage is found, readers map the file.

A block is some rows along the first axis. While an array is being made it lies at `<path>.part`; beside it
the journal `<path>.blocks` gets a line with the CRC-32 of each block that is written. The whole file is
renamed to `<path>` and the journal stays as its list of checksums.
"""

import json
import logging
import os
import shutil
import threading
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from hkbench.errors import HkbenchError, UsageError
from hkbench.store.atomic import append_line, explaining_full_disk
from hkbench.store.journal import Layout, journal_of, part_of, read_journal, write_journal

log = logging.getLogger(__name__)

Advance = Callable[[int, int], None]
"""Called with (done, in all) as work goes on."""
VERIFIED_BYTES = 8 << 30
"""A file up to this size is verified whole when it is about to be used; of a larger one so much, spread."""


@dataclass(frozen=True, kw_only=True)
class BlockSink:
    """Where the blocks of one array go; small and picklable, so that other processes can write too."""

    part: Path
    layout: Layout

    def put(self, block: int, values: NDArray[Any]) -> int:
        """Write a block to its place and return its checksum, which the maker notes.

        Raises:
            ValueError: `values` don't have the block's shape.
            OSError: the disk is full. Written, not mapped: a mapped page would kill the process.
        """
        rows = self.layout.rows(block)
        values = np.ascontiguousarray(values, dtype=self.layout.dtype)
        if values.shape != (len(rows), *self.layout.shape[1:]):
            raise ValueError(f"block {block} is {(len(rows), *self.layout.shape[1:])}, got {values.shape}")
        content = values.reshape(-1).view(np.uint8).data
        at = len(self.layout.header()) + rows.start * self.layout.row_bytes
        file = os.open(self.part, os.O_WRONLY)
        try:
            done = 0
            while done < len(content):
                done += os.pwrite(file, content[done:], at + done)
        finally:
            os.close(file)
        return zlib.crc32(content)


class BlockMaker:
    """An array under way: what is missing, and where finished blocks are noted.

    The caller holds the lock of `path`. Blocks that an earlier maker left behind are kept if their checksum
    still holds; so are the good blocks of a whole file that was damaged.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = path
        self.layout = layout
        self.sink = BlockSink(part=part_of(path), layout=layout)
        self._noting = threading.Lock()
        done = self._taken_up()
        self._noted = done
        self.missing = [block for block in range(layout.blocks) if block not in done]
        self._refuse_without_room()
        write_journal(path, layout, done)
        if not self.sink.part.exists():
            with explaining_full_disk(path):
                self.sink.part.write_bytes(layout.header())
                os.truncate(self.sink.part, len(layout.header()) + layout.shape[0] * layout.row_bytes)

    def _taken_up(self) -> dict[int, int]:
        if self.path.exists():
            self.path.replace(self.sink.part)
        journal = read_journal(self.path)
        if journal is None or journal[0] != self.layout or not _has_form(self.sink.part, self.layout):
            self.sink.part.unlink(missing_ok=True)
            return {}
        bad = set(_damaged(self.sink.part, self.layout, journal[1], journal[1]))
        return {block: crc for block, crc in journal[1].items() if block not in bad}

    def _refuse_without_room(self) -> None:
        needed = len(self.missing) * self.layout.block_rows * self.layout.row_bytes
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise UsageError(
                f"{self.path} needs {needed / 1e9:,.1f} GB more and the disk has {free / 1e9:,.1f} GB free. "
                "Free some space ('hkbench data prune'), or set HKBENCH_CACHE to a folder on a larger disk."
            )

    def write(self, block: int, values: NDArray[Any]) -> None:
        """Write a block and note it; from any thread.

        Raises:
            UsageError: the disk is full; blocks written before are kept.
        """
        with explaining_full_disk(self.path):
            checksum = self.sink.put(block, values)
        self.note(block, checksum)

    def note(self, block: int, checksum: int) -> None:
        """Note a block that `sink.put` has written, in this process or another."""
        with self._noting:
            append_line(journal_of(self.path), json.dumps({"block": block, "crc32": checksum}))
            self._noted[block] = checksum

    def finish(self) -> None:
        """Give the file its final name; readers find it from now on.

        Raises:
            ValueError: a block was never noted.
        """
        if len(self._noted) < self.layout.blocks:
            raise ValueError(
                f"{self.layout.blocks - len(self._noted)} blocks of {self.path} were never noted"
            )
        write_journal(self.path, self.layout, self._noted)  # in order, whoever was done first
        with explaining_full_disk(self.path), self.sink.part.open("rb") as written:
            os.fsync(written.fileno())
        self.sink.part.replace(self.path)


def make_once(
    path: Path,
    layout: Layout,
    fill: Callable[[BlockMaker], None],
    holds: Callable[[], bool] | None = None,
) -> bool:
    """Make the array at `path` if it isn't there whole; return whether anything had to be made.

    Processes that want the same array wait for the first. `fill` is given a maker and writes the blocks
    that it misses; what it has written when it is killed is kept for the next call. Damaged blocks are made
    again, with a warning; all of it is, if `holds` says that whole blocks hold something wrong.

    Raises:
        UsageError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.exists():
            bad = damage(path, layout)
            if not bad and (holds is None or holds()):
                return False
            if not bad:
                log.warning("%s doesn't hold what it should any more and is made again", path)
                remove_blocks(path)
            else:
                log.warning("%s is damaged (%s) and is mended", path, bad)
        maker = BlockMaker(path, layout)
        fill(maker)
        maker.finish()
    return True


def damage(path: Path, layout: Layout) -> str:
    """Say what is wrong with a whole file, "" if nothing is; reads at most `VERIFIED_BYTES` of it."""
    journal = read_journal(path)
    if journal is None or journal[0] != layout or len(journal[1]) != layout.blocks:
        return "its checksums are missing or of another array"
    if not _has_form(path, layout):
        return "it is cut off or not the array that it should be"
    block_bytes = layout.block_rows * layout.row_bytes
    looked_at = min(layout.blocks, max(2, VERIFIED_BYTES // max(1, block_bytes)))
    chosen = np.unique(np.linspace(0, max(0, layout.blocks - 1), looked_at).round().astype(int)).tolist()
    bad = _damaged(path, layout, journal[1], chosen)
    return f"{len(bad)} of {layout.blocks} blocks have other checksums" if bad else ""


def open_blocks(path: Path) -> NDArray[Any]:
    """Map a whole array read-only; only its header and its first and last block are looked at.

    Raises:
        HkbenchError: it is missing, cut off or damaged.
    """
    journal = read_journal(path)
    try:
        if journal is None:
            raise ValueError("its checksums are missing")
        layout, checksums = journal
        if len(checksums) != layout.blocks or not _has_form(path, layout):
            raise ValueError("it is cut off or unfinished")
        if layout.blocks and _damaged(path, layout, checksums, {0, layout.blocks - 1}):
            raise ValueError("a block has another checksum")
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise HkbenchError(
            f"{path} is missing or damaged ({error}). Run the command again that made it: it is mended."
        ) from error
    return mapped


def remove_blocks(path: Path) -> None:
    """Remove an array, whole or under way, with its checksums."""
    for each in (path, part_of(path), journal_of(path)):
        each.unlink(missing_ok=True)


def _has_form(path: Path, layout: Layout) -> bool:
    header = layout.header()
    try:
        with path.open("rb") as file:
            return (
                file.read(len(header)) == header
                and path.stat().st_size == len(header) + layout.shape[0] * layout.row_bytes
            )
    except FileNotFoundError:
        return False


def _damaged(path: Path, layout: Layout, checksums: dict[int, int], chosen: Iterable[int]) -> list[int]:
    """Return which of the chosen blocks have another checksum than they should."""
    begin, bad = len(layout.header()), []
    with path.open("rb") as file:
        for block in sorted(chosen):
            rows = layout.rows(block)
            file.seek(begin + rows.start * layout.row_bytes)
            if zlib.crc32(file.read(len(rows) * layout.row_bytes)) != checksums[block]:
                bad.append(block)
    return bad


def fill_in_threads(
    maker: BlockMaker,
    compute: Callable[[range], NDArray[Any]],
    *,
    workers: int,
    advance: Advance | None = None,
) -> None:
    """Compute and write all missing blocks of an array, several at once.

    Args:
        maker: the array under way.
        compute: gives the values of some rows; called from `workers` threads at once.
        workers: how many blocks are computed at a time.
        advance: called with (rows done, rows in all).
    """
    layout = maker.layout
    done = layout.shape[0] - sum(len(layout.rows(block)) for block in maker.missing)

    def make(block: int) -> int:
        maker.write(block, compute(layout.rows(block)))
        return len(layout.rows(block))

    with ThreadPoolExecutor(workers) as pool:
        try:
            for rows in pool.map(make, maker.missing):
                done += rows
                if advance is not None:
                    advance(done, layout.shape[0])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
