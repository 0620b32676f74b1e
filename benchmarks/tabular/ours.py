"""The search that hkbench makes, as a strategy of the simulator: its own searcher and its own rule, without
Ray.
"""

from collections.abc import Mapping
from typing import Any

from benchmarks.tabular.simulator import Asked
from benchmarks.tabular.table import Table
from hkbench.analysis.trials import losses_of
from hkbench.sampling.searcher import Searcher
from hkbench.scheduling.scheduler import ParetoHalving
from hkbench.spaces.space import Schedule, Space
from hkbench.study.ask_tell import AskTell
from hkbench.study.samplers import FRONTIER


def scheduled(table: Table, **changes: Any) -> Space:
    """Return a table's space with hkbench's default schedule for its number of epochs."""
    schedule = Schedule(max_epochs=table.max_epochs).model_copy(update=changes)
    return table.space.model_copy(update={"schedule": schedule})


class Hkbench:
    """A study in memory, asked and told as a search does.

    With `stopping` False every trial trains to its end. With `points` it asks for so many points at most.
    """

    def __init__(
        self,
        table: Table,
        seed: int,
        *,
        sampler: str = FRONTIER,
        stopping: bool = True,
        points: int | None = None,
        **schedule: Any,
    ) -> None:
        self._table = table
        self._space = scheduled(table, **schedule)
        self._study = AskTell.in_memory(self._space, seed, sampler)
        self._searcher = Searcher(self._study, self._space, sampler, self._costs, seed)
        best_case = self._searcher.best_case if self._searcher.foresees else None
        rule = ParetoHalving(self._space.schedule, self._space.objectives, best_case)
        self._rule = rule if stopping else None
        self._points_left = points
        self._thawed: dict[int, int] = {}
        self._epochs: dict[int, int] = {}

    def _costs(self, params: Mapping[str, Any]) -> Mapping[str, float] | None:
        row = self._table.find(params)
        return None if row is None else self._table.rows[row].costs

    def suggest(self) -> Asked | None:
        """Return the searcher's next trial."""
        if self._points_left == 0:
            return None
        asked = self._searcher.ask()
        if asked is None:
            return None
        if self._points_left is not None and asked.thaws is None:
            self._points_left -= 1
        self._searcher.started(asked)
        self._thawed[asked.number] = self._epochs.get(asked.thaws, 0) if asked.thaws is not None else 0
        return Asked(key=asked.number, params=asked.params)

    def on_epoch(self, key: int, epoch: int, values: dict[str, float]) -> bool:
        """Tell searcher and rule of an epoch; one that a thawed trial had before decides nothing."""
        self._epochs[key] = epoch
        self._searcher.trained(key, epoch, values)
        if self._rule is None:
            return True
        losses = losses_of(values, self._space.objectives)
        return self._rule.goes_on(key, epoch, losses, again=epoch <= self._thawed[key])

    def on_end(self, key: int, epoch: int, values: dict[str, float], complete: bool) -> None:
        """Tell study, searcher and rule how a trial has ended."""
        if complete:
            self.on_epoch(key, epoch, values)
            self._study.tell_complete(key, values, {})
        else:
            self._study.tell_pruned(key, values, "beaten")
        self._searcher.finished(key, "complete" if complete else "stopped")
