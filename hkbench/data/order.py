"""In which order an epoch takes its pictures, so that stores larger than memory are read in few long runs."""

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]

BLOCK_BYTES = 1 << 20
"""Neighbours that are read together: at a megabyte a disk is about as fast as it gets."""
WINDOW_SHARE = 1 / 3
"""Of the memory: one window is in use, the next is being read, the rest is the system's."""
GAP_ROWS = 8
"""Rows apart that are still worth reading in one run."""


def epoch_windows(
    rows: Positions, rng: np.random.Generator, *, store_row_bytes: int, memory_bytes: int
) -> list[Positions]:
    """Return the positions 0 … len(rows)−1, int64, of one epoch, in windows to take one after the other.

    One window in plain random order where the pictures fit in memory. Else neighbours in the store make
    blocks of a megabyte, which are dealt to windows of a third of the memory, and a window's pictures are
    shuffled. A window has blocks from all over the store, which is sorted by class, so that its batches mix
    the classes.

    Args:
        rows: int64 (n,), the rows of the store that are trained on, in any order.
        rng: the same state gives the same order.
        store_row_bytes: what a picture takes.
        memory_bytes: what its file may take of the memory.
    """
    count = len(rows)
    if count * store_row_bytes <= memory_bytes:
        return [rng.permutation(count)]
    block = max(1, -(-BLOCK_BYTES // store_row_bytes))
    by_row = np.argsort(rows, kind="stable")
    # Blocks begin elsewhere each epoch, so that neighbours don't always come together.
    blocks = np.split(by_row, np.arange(int(rng.integers(1, block + 1)), count, block))
    in_window = max(2, int(memory_bytes * WINDOW_SHARE) // (block * store_row_bytes))
    windows = -(-len(blocks) // in_window)
    # Of every `windows` neighbouring blocks each window gets one: it spans the store, so all classes.
    dealt = np.full(-(-len(blocks) // windows) * windows, -1)
    dealt[: len(blocks)] = np.arange(len(blocks))
    dealt = rng.permuted(dealt.reshape(-1, windows), axis=1)
    return [
        rng.permutation(np.concatenate([blocks[index] for index in column if index >= 0]))
        for column in dealt.T
        if column.max() >= 0
    ]


def advise_window(mapped: NDArray[Any], rows: Positions) -> int:
    """Ask the system to read some rows of a mapped store soon; return how many runs of rows that are.

    Returns 0 and does nothing for an array that isn't mapped whole, or where the system can't be asked.
    """
    memory = getattr(mapped, "_mmap", None)
    offset = getattr(mapped, "offset", None)
    if not isinstance(memory, mmap.mmap) or offset is None or not hasattr(memory, "madvise") or not len(rows):
        return 0
    row_bytes = mapped.strides[0]
    if len(memory) < offset % mmap.ALLOCATIONGRANULARITY + len(mapped) * row_bytes:
        return 0
    ordered = np.unique(rows)
    runs = np.split(ordered, np.flatnonzero(np.diff(ordered) > GAP_ROWS) + 1)
    for run in runs:
        begin = offset % mmap.ALLOCATIONGRANULARITY + int(run[0]) * row_bytes
        page = begin - begin % mmap.PAGESIZE
        end = begin + (int(run[-1]) - int(run[0]) + 1) * row_bytes
        memory.madvise(mmap.MADV_WILLNEED, page, end - page)
    return len(runs)
