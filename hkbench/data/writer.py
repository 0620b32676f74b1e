"""Decodes pictures on all cores and writes them, block by block, to the arrays of one or several sizes."""

import copy
import importlib
import json
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hkbench.config import usable_cores
from hkbench.data.decode import decode_many, no_warnings
from hkbench.data.source import Source
from hkbench.errors import HkbenchError
from hkbench.store.atomic import append_line, write_text
from hkbench.store.blocks import Advance, BlockMaker, BlockSink, open_blocks, remove_blocks
from hkbench.store.journal import Layout, journal_of

PICTURES = "pictures.npy"
REJECTED = "rejected.jsonl"
FEWEST_IN_BLOCK, MOST_IN_BLOCK = 16, 32
"""Pictures: few enough for a block of large ones to fit in memory on every core."""
PROCESSES_FROM = 20_000
"""From so many pictures on, processes decode: a picture that ends one doesn't end the command. For fewer,
threads: decoding and scaling let other threads run, and a process takes a second to load what it needs."""

Reasons = dict[int, str]
"""Index of a bad picture → why it can't be used."""


def pictures_layout(pictures: int, size: int) -> Layout:
    """Return the layout of uint8 (pictures, 3, size, size); blocks are the same pictures at every size."""
    rows = min(MOST_IN_BLOCK, max(FEWEST_IN_BLOCK, pictures // 128))
    return Layout(shape=(pictures, 3, size, size), dtype="uint8", block_rows=rows)


class PictureMaker:
    """The array of one size under way in `folder`, with the bad pictures of its finished blocks.

    The array has a row for every picture of the source; `finish` takes out those of bad ones.
    """

    def __init__(self, folder: Path, pictures: int, size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.size = size
        self._blocks = BlockMaker(folder / PICTURES, pictures_layout(pictures, size))
        self._file = folder / REJECTED
        self.sink = self._blocks.sink
        self.missing = tuple(self._blocks.missing)
        self._bad = self._taken_up()

    def _taken_up(self) -> dict[int, Reasons]:
        """Read the bad pictures of blocks that are there. A block is noted after them, so none is lost."""
        bad = {}
        for line in self._file.read_text(encoding="utf-8").splitlines() if self._file.exists() else ():
            try:
                noted = json.loads(line)
            except ValueError:  # torn by a kill; its block was never noted
                continue
            bad[noted["block"]] = {int(index): reason for index, reason in noted["bad"].items()}
        kept = {block: reasons for block, reasons in bad.items() if block not in self.missing}
        if self._file.exists():
            write_text(self._file, "".join(_line(block, reasons) + "\n" for block, reasons in kept.items()))
        return kept

    def note(self, block: int, checksum: int, bad: Reasons) -> None:
        """Note a block that was written, and which of its pictures are bad."""
        if bad:
            self._bad[block] = bad
            append_line(self._file, _line(block, bad))
        self._blocks.note(block, checksum)

    @property
    def bad(self) -> Reasons:
        """The bad pictures of all blocks, in the order of the source."""
        return {index: why for block in sorted(self._bad) for index, why in self._bad[block].items()}

    def finish(self, bad: Reasons) -> None:
        """Give the array its name, without the rows of bad pictures: those of this size and of any other."""
        self._blocks.finish()
        if bad:
            whole = self._blocks.path
            good = np.delete(np.arange(self.sink.layout.shape[0]), list(bad))
            _copy_rows(whole, whole.with_name("good.npy"), good, self.size)


def write_blocks(
    source: Source, makers: Iterable[PictureMaker], workers: int | None, advance: Advance | None
) -> None:
    """Decode what the makers miss, each picture read once for all sizes; by default on all cores.

    Who decodes a block writes it too, so that no pixels travel between processes. `advance` is called with
    (pictures done, pictures in all).

    Raises:
        OSError: the disk is full.
        HkbenchError: a decoding process died.
    """
    by_size = {maker.size: maker for maker in makers}
    missing: dict[int, list[int]] = {}
    for size, maker in by_size.items():
        for block in maker.missing:
            missing.setdefault(block, []).append(size)
    if not missing:
        return
    layout = next(iter(by_size.values())).sink.layout
    total = len(source.ids)
    done = total - sum(len(layout.rows(block)) for block in missing)
    work = _Work(read=source.read, sinks={size: maker.sink for size, maker in by_size.items()})
    pool = _pool(work, total, workers, len(missing))
    try:
        with no_warnings():
            for task in as_completed([pool.submit(_write_block, *each) for each in sorted(missing.items())]):
                written = task.result()
                for size, checksum in written.checksums.items():
                    by_size[size].note(written.block, checksum, written.bad[size])
                done += len(layout.rows(written.block))
                if advance is not None:
                    advance(done, total)
    except BrokenProcessPool as error:
        raise HkbenchError(
            "A process that decodes pictures died, most likely for want of memory. "
            "Free some memory, or lower the number of workers, and run the command again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What a worker is told once, for a reader may hold a hundred thousand paths, or keep files open."""

    read: Callable[[int], bytes]
    sinks: dict[int, BlockSink]


@dataclass(frozen=True, kw_only=True)
class _Written:
    """A block that was decoded and written: by size, its checksum and its bad pictures."""

    block: int
    checksums: dict[int, int]
    bad: dict[int, Reasons]


_worker = threading.local()


def _write_block(block: int, sizes: list[int]) -> _Written:
    work: _Work = _worker.work
    rows = work.sinks[sizes[0]].layout.rows(block)
    values = {size: np.zeros((len(rows), 3, size, size), dtype=np.uint8) for size in sizes}
    bad: dict[int, Reasons] = {size: {} for size in sizes}
    for row, pictures in enumerate(decode_many(work.read, rows, sizes)):
        for size, decoded in zip(sizes, pictures, strict=True):
            if isinstance(decoded, str):
                bad[size][rows[row]] = decoded
            else:
                values[size][row] = decoded
    checksums = {size: work.sinks[size].put(block, values[size]) for size in sizes}
    return _Written(block=block, checksums=checksums, bad=bad)


def _pool(work: _Work, pictures: int, workers: int | None, blocks: int) -> Executor:
    if pictures < PROCESSES_FROM:
        import torch  # noqa: F401 - loaded here once, not by all threads at the same moment

        # Two a core: while one waits for the interpreter, which only one can have, another decodes.
        threads = min(workers or 2 * usable_cores(), blocks)
        return ThreadPoolExecutor(threads, initializer=_start_thread, initargs=(work,))
    # Not fork: the caller may have threads, of torch or Ray, and a forked lock stays locked for ever.
    context = multiprocessing.get_context("spawn")
    processes = min(workers or usable_cores(), blocks)
    return ProcessPoolExecutor(processes, context, initializer=_start_process, initargs=(work,))


def _start_thread(work: _Work) -> None:
    # A reader of its own: readers keep the part of a file that they were asked for last.
    _worker.work = _Work(read=copy.copy(work.read), sinks=work.sinks)


def _start_process(work: _Work) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends the pool
    warnings.simplefilter("ignore")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    importlib.import_module("torchvision.io")  # decodes WebP faster; over so many pictures it pays
    _worker.work = work


def _end_with_parent() -> None:
    """Leave when the parent is killed; the pool itself would wait for its next block for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _line(block: int, bad: Reasons) -> str:
    return json.dumps({"block": block, "bad": bad})


def _copy_rows(whole: Path, good: Path, rows: NDArray[np.int64], size: int) -> None:
    """Replace an array by some of its rows. A kill costs the work or nothing; a mixture never passes."""
    mapped = open_blocks(whole)
    remove_blocks(good)
    maker = BlockMaker(good, pictures_layout(len(rows), size))
    for block in maker.missing:
        maker.write(block, mapped[rows[list(maker.layout.rows(block))]])
    maker.finish()
    # Between these two the checksums are of another array than the file, which is then made again.
    journal_of(good).replace(journal_of(whole))
    good.replace(whole)
