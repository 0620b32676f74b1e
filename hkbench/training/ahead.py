"""What is made ahead of all trainings: an array with a row for each view of each picture of the train part.

Rendered views, teacher logits and features of frozen stages are made this way: once, by all cores, kept in
the cache under a key of all that they depend on, resumable, and mapped by every worker.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hkbench.config import cache_dir, usable_memory_bytes
from hkbench.data.augment import ViewTable
from hkbench.data.render import render_mixed
from hkbench.data.splits import Split
from hkbench.data.store import PictureStore
from hkbench.store.blocks import Advance, fill_in_threads, make_once, open_blocks
from hkbench.store.cache import key_of, touch
from hkbench.store.journal import Layout

Compute = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[Any]]
"""(views, positions in the train part), each int64 (rows,) → the rows' values."""

BLOCK_BYTES = 1 << 20
MEMORY_SHARE = 0.25
"""Of the memory that we may use, not of what is free now: the same machine decides alike each time."""
DISK_SHARE = 0.5
CPU = torch.device("cpu")
PIXELS = "2"
"""Names how views become pixels. A change to `data.render` that shows needs another one."""


def ahead_path(kind: str, *parts: object) -> Path:
    """Return where an array of some kind is kept: the hash of all that it depends on names it."""
    return cache_dir() / kind / f"{key_of(*map(str, parts), PIXELS, torch.__version__)}.npy"


def make_ahead(
    path: Path,
    shape: tuple[int, ...],
    dtype: str,
    compute: Compute,
    *,
    workers: int,
    rows_a_block: int | None = None,
    advance: Advance | None = None,
    holds: Callable[[], bool] | None = None,
) -> bool:
    """Make the array at `path` if it isn't there whole; return whether anything had to be made.

    Args:
        path: from `ahead_path`.
        shape: (views, train, …).
        dtype: its name.
        compute: gives rows; called from `workers` threads, each with one torch thread.
        workers: how many threads compute.
        rows_a_block: how many rows are computed and written at a time; about a megabyte's by default.
        advance: called with (rows done, rows in all).
        holds: says of an array that is there whether its rows are still right.

    Raises:
        UsageError: the disk is full.
    """
    views, train, *rest = shape
    row_bytes = int(np.prod(rest)) * np.dtype(dtype).itemsize
    layout = Layout(
        shape=(views * train, *rest),
        dtype=dtype,
        block_rows=rows_a_block or max(1, BLOCK_BYTES // row_bytes),
    )

    def rows_of(rows: range) -> NDArray[Any]:
        view, position = np.divmod(np.arange(rows.start, rows.stop), train)
        return compute(view, position)

    with torch_threads(1):
        return make_once(
            path,
            layout,
            lambda maker: fill_in_threads(maker, rows_of, workers=workers, advance=advance),
            holds,
        )


def open_ahead(path: Path, views: int) -> NDArray[Any]:
    """Map such an array, (views, train, …), without reading it.

    Raises:
        HkbenchError: it is missing or damaged.
    """
    rows = open_blocks(path)
    touch(path)
    return rows.reshape(views, len(rows) // views, *rows.shape[1:])


def render(
    store: PictureStore,
    split: Split,
    table: ViewTable,
    views: NDArray[np.int64],
    positions: NDArray[np.int64],
    device: torch.device = CPU,
) -> torch.Tensor:
    """Return views of pictures of the train part, mixed where the policy says so.

    `views` and `positions` are int64 (rows,). Returns uint8 (rows, 3, size, size) on `device`,
    channels-last.
    """

    def gathered(positions: NDArray[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        pictures = torch.from_numpy(store.pictures[split.train[positions]]).to(device)
        return pictures, torch.from_numpy(table.parameters[views, positions]).to(device)

    partners = None if table.partners is None else gathered(table.partners[views, positions])
    return render_mixed(*gathered(positions), partners)


def fits_ahead(needed_bytes: int) -> bool:
    """Say whether memory, which workers share, and the cache's disk hold arrays of this size easily."""
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    return (
        needed_bytes <= MEMORY_SHARE * usable_memory_bytes()
        and needed_bytes <= DISK_SHARE * shutil.disk_usage(folder).free
    )


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch use so many threads within an operator, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
