"""How commands speak: results on standard output, progress and warnings on standard error."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

Advance = Callable[[int, int], None]
"""Called with (done, total) as work goes on."""

PLAIN_INTERVAL_S = 5.0

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    err.print(Text.assemble(("warning: ", "yellow"), text))


def print_table(table: Table, *, width: int) -> None:
    """Print a table at least `width` columns wide; a narrower terminal breaks its lines."""
    Console(highlight=False, width=max(out.width, width)).print(table)


def print_json(found: Any) -> None:
    """Print one JSON value on standard output."""
    print(json.dumps(found, ensure_ascii=False, allow_nan=False))


@contextmanager
def progress(label: str) -> Iterator[Advance]:
    """Show how far a piece of work is: a bar on a terminal, a line every few seconds elsewhere."""
    if err.is_terminal:
        with _bar(label) as advance:
            yield advance
    else:
        yield _plain(label)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True)


@contextmanager
def _bar(label: str) -> Iterator[Advance]:
    with _progress() as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _plain(label: str) -> Advance:
    last = time.perf_counter()

    def advance(done: int, total: int) -> None:
        nonlocal last
        moment = time.perf_counter()
        if done >= total or moment - last >= PLAIN_INTERVAL_S:
            last = moment
            err.print(f"{label}: {done} of {total}", markup=False)

    return advance


class Phases:
    """Tells of pieces of work one after the other, each with how far it is."""

    def __init__(self, bar: Progress | None) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None) if bar is not None else None
        self._plain = _plain("")

    def phase(self, name: str) -> None:
        """Say which piece of work begins."""
        self._plain = _plain(name)
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, description=name, total=None)
        else:
            err.print(f"{name} …", markup=False)

    def advance(self, done: int, total: int) -> None:
        """Say how far it is."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
        else:
            self._plain(done, total)


@contextmanager
def progress_phases() -> Iterator[Phases]:
    """Show pieces of work as they come: a bar on a terminal, lines elsewhere."""
    if err.is_terminal:
        with _progress() as bar:
            yield Phases(bar)
    else:
        yield Phases(None)
