"""A search in simulated time: a strategy asks for trials, the table answers with their epochs.

Trials run side by side, each epoch takes the seconds that it took when it was recorded, and what a strategy
hears it hears in that order. An epoch that was trained before in the same search, under an equal point, is
answered from the record at once and counts as no work: for every strategy alike.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.tabular.table import Table

MOST_ASKS = 20_000
"""So many asks end a replay: a strategy that only repeats itself would go on for ever."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a strategy wants trained; `key` is its own number of the trial, `params` a point of the space."""

    key: int
    params: dict[str, Any]


class Strategy(Protocol):
    """A searcher with its scheduler."""

    def suggest(self) -> Asked | None:
        """Return the next trial; None for nothing now: it is asked again after the next epoch."""

    def on_epoch(self, key: int, epoch: int, values: dict[str, float]) -> bool:
        """Take what a trial reports after an epoch that isn't its last, and say whether it goes on."""

    def on_end(self, key: int, epoch: int, values: dict[str, float], complete: bool) -> None:
        """Take a trial's last report; `complete` says that it has trained to its end."""


@dataclass(kw_only=True)
class Replay:
    """A search as it went; `finished` are (epochs of work until then, row) of trials that came to their
    end.
    """

    epochs: int = 0
    asks: int = 0
    repeats: int = 0
    seconds: float = 0.0
    finished: list[tuple[int, int]] = field(default_factory=list)
    trained: dict[int, int] = field(default_factory=dict)


@dataclass(kw_only=True)
class _Live:
    asked: Asked
    row: int
    epoch: int = 0


def replay(
    table: Table,
    strategy: Strategy,
    *,
    concurrency: int,
    most_asks: int = MOST_ASKS,
    enough: Callable[[Replay], bool] = lambda _: False,
) -> Replay:
    """Run a strategy over a table until it asks for nothing, has asked often enough, or `enough` says so.

    Args:
        table: answers.
        strategy: asks.
        concurrency: how many trials run side by side.
        most_asks: how many trials it may ask for.
        enough: is asked after every trial that came to its end.
    """
    done = Replay()
    live: list[tuple[float, int, _Live]] = []
    turn = 0
    now = 0.0
    while True:
        while len(live) < concurrency and done.asks < most_asks:
            asked = strategy.suggest()
            if asked is None:
                break
            trial = _Live(asked=asked, row=table.find(asked.params))
            done.asks += 1
            done.repeats += trial.row in done.trained
            turn += 1
            heapq.heappush(live, (now + _seconds(table, done, trial), turn, trial))
        if not live:
            return done
        now, _, trial = heapq.heappop(live)
        done.seconds = now
        if _report(table, strategy, trial, done):
            turn += 1
            heapq.heappush(live, (now + _seconds(table, done, trial), turn, trial))
        elif trial.epoch == table.max_epochs and enough(done):
            return done


def _seconds(table: Table, done: Replay, trial: _Live) -> float:
    """Return how long the trial's next epoch takes: nothing if an equal point has trained it."""
    if done.trained.get(trial.row, 0) > trial.epoch:
        return 0.0
    return table.rows[trial.row].seconds[trial.epoch]


def _report(table: Table, strategy: Strategy, trial: _Live, done: Replay) -> bool:
    """Count an epoch, tell the strategy of it, and return whether the trial goes on."""
    trial.epoch += 1
    known = done.trained.get(trial.row, 0)
    if trial.epoch > known:
        done.epochs += 1
        done.trained[trial.row] = trial.epoch
    values = table.values(trial.row, trial.epoch)
    if trial.epoch == table.max_epochs:
        done.finished.append((done.epochs, trial.row))
        strategy.on_end(trial.asked.key, trial.epoch, values, complete=True)
        return False
    if strategy.on_epoch(trial.asked.key, trial.epoch, values):
        return True
    strategy.on_end(trial.asked.key, trial.epoch, values, complete=False)
    return False
