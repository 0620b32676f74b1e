"""Decodes pictures in a pool of processes and writes them, in order, to one `.npy` file."""

import itertools
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hkbench.config import usable_cores
from hkbench.data.decode import Decoded, decode_many
from hkbench.data.source import Source
from hkbench.errors import HkbenchError

CHUNK = 64


def write_pictures(
    path: Path,
    source: Source,
    size: int,
    workers: int | None,
    advance: Callable[[int, int], None] | None,
) -> dict[int, str]:
    """Write uint8 (good pictures, 3, size, size) to `path`; return the reason for each index left out.

    Written, not mapped: on a full disk a write raises, while a mapped page would kill the process.

    Raises:
        OSError: the disk is full.
        HkbenchError: a decoding process died.
    """
    total = len(source.ids)
    bad: dict[int, str] = {}
    # Closed at once if writing fails, or an error's traceback would keep the pool alive.
    with path.open("wb") as file, closing(_decoded(source, size, workers)) as pictures:
        header_bytes = _write_header(file, total, size)
        for index, decoded in enumerate(pictures):
            if isinstance(decoded, str):
                bad[index] = decoded
            else:
                file.write(decoded.tobytes())
            if advance is not None and ((index + 1) % CHUNK == 0 or index + 1 == total):
                advance(index + 1, total)
        file.seek(0)
        # numpy leaves room in the header for the first axis to change.
        if _write_header(file, total - len(bad), size) != header_bytes:
            raise RuntimeError("numpy changed the length of its header")
        file.flush()
        os.fsync(file.fileno())
    return bad


def _write_header(file: BinaryIO, pictures: int, size: int) -> int:
    shape = (pictures, 3, size, size)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.tell()


def _decoded(source: Source, size: int, workers: int | None) -> Generator[Decoded, None, None]:
    """Yield every picture in order. A single chunk isn't worth starting processes for."""
    total = len(source.ids)
    chunks = [range(start, min(start + CHUNK, total)) for start in range(0, total, CHUNK)]
    workers = min(workers or usable_cores(), len(chunks))
    if workers == 1:
        for chunk in chunks:
            yield from decode_many(source.read, chunk, size)
        return
    # Not fork: the caller may have threads, of torch or Ray, and a forked lock stays locked for ever.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(source.read, size))
    try:
        yield from _in_order(pool, chunks, ahead=3 * workers)
    except BrokenProcessPool as error:
        raise HkbenchError(
            "A process that decodes pictures died, most likely for want of memory. "
            "Free some memory, or lower the number of workers, and run the command again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, chunks: list[range], ahead: int) -> Iterator[Decoded]:
    """Yield the pictures of all chunks, with at most `ahead` of these decoded and not yet taken."""
    waiting = iter(chunks)
    running: deque[Future[list[Decoded]]] = deque()
    while True:
        for chunk in itertools.islice(waiting, ahead - len(running)):
            running.append(pool.submit(_decode_in_worker, chunk))
        if not running:
            return
        yield from running.popleft().result()


# A worker is told once what to read, for a reader may hold a hundred thousand paths, or keep files open.
_decode_chunk: Callable[[range], list[Decoded]]


def _start_worker(read: Callable[[int], bytes], size: int) -> None:
    global _decode_chunk
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends the pool
    _decode_chunk = partial(decode_many, read, side=size)


def _decode_in_worker(chunk: range) -> list[Decoded]:
    return _decode_chunk(chunk)
