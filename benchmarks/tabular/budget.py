"""How many epochs a strategy needs until what it has trained to the end is worth nearly as much as the
whole table.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from benchmarks.tabular.hypervolume import GrowingHypervolume, hypervolume
from benchmarks.tabular.simulator import Replay, Strategy, replay
from benchmarks.tabular.table import Table

CONCURRENCY = 4
"""Trials side by side, for every strategy."""
SHARE = 0.99
ASKS_A_ROW = 5
"""So many asks for each row of the table at most: a strategy that repeats itself for so long has not
arrived.
"""
Build = Callable[[Table, int], Strategy]


@dataclass(frozen=True, kw_only=True)
class Course:
    """A replay's hypervolume, as a share of the whole table's, after the epochs of work of each finished
    trial.
    """

    replayed: Replay
    reached: list[tuple[int, float]]

    def epochs_to(self, share: float) -> float:
        """Return the epochs of work until a share was reached; infinite if it wasn't."""
        return next((float(epochs) for epochs, found in self.reached if found >= share), math.inf)

    @cached_property
    def end(self) -> float:
        """The share at the end."""
        return self.reached[-1][1] if self.reached else 0.0


def course_of(
    table: Table, strategy: Strategy, *, asks: int | None = None, until: float = math.inf
) -> Course:
    """Replay a strategy and follow its hypervolume; only trials that trained to their end count.

    Args:
        table: answers.
        strategy: asks.
        asks: how many trials it may ask for; by default `ASKS_A_ROW` for each row.
        until: the share at which to end.
    """
    whole = hypervolume(table.final, reference=table.reference)
    growing = GrowingHypervolume(table.reference)
    reached: list[tuple[int, float]] = []

    def enough(done: Replay) -> bool:
        epochs, row = done.finished[-1]
        reached.append((epochs, growing.add(table.final[row]) / whole))
        return reached[-1][1] >= until

    most = asks or ASKS_A_ROW * len(table.rows)
    replayed = replay(table, strategy, concurrency=CONCURRENCY, most_asks=most, enough=enough)
    return Course(replayed=replayed, reached=reached)
