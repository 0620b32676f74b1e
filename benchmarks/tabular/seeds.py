"""Replays of many seeds, side by side on this machine's cores; a result depends on its seed alone."""

import multiprocessing
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TypeVar

from benchmarks.tabular.table import Table, load_table
from hkbench.config import usable_cores

T = TypeVar("T")
TUNING = range(100)
"""Seeds that defaults were chosen with."""
JUDGING = range(1000, 1030)
"""Thirty seeds that nothing was chosen with."""

_table: Table


def over_seeds(measure: Callable[[Table, int], T], table: str, seeds: Sequence[int]) -> list[T]:
    """Return `measure(table, seed)` of each seed, in order; `measure` must be picklable."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(usable_cores(), context, _start, (table,)) as pool:
        return list(pool.map(partial(_measured, measure), seeds))


def _start(table: str) -> None:
    import torch

    global _table
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    _table = load_table(table)


def _measured(measure: Callable[[Table, int], T], seed: int) -> T:
    return measure(_table, seed)
