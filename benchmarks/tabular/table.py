"""A table: every point of a space with its learning curve and its costs, so that a training is a look-up."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hkbench.analysis.trials import losses_of
from hkbench.errors import UsageError
from hkbench.spaces.space import Space
from hkbench.study.points import point_key

FOLDER = Path(__file__).parent
TUNED_ON, JUDGED_ON = "untaught", "taught"
"""The table that hkbench's defaults were chosen on, and the one that figures are taken from."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How an objective is brought to [0, 1] for the hypervolume: `low` is the best of the table, `high` the
    worst.

    Both are as losses, so accuracy is negated; `log` takes the logarithm of both.
    """

    low: float
    high: float
    log: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """One point: its validation metrics after each epoch, the seconds of each, and what its file costs."""

    params: dict[str, Any]
    accuracy: tuple[float, ...]
    seconds: tuple[float, ...]
    costs: dict[str, float]


class Table:
    """The rows of a space whose points have all been trained for the same number of epochs."""

    def __init__(self, space: Space, rows: list[Row], scales: dict[str, Scale], reference: float) -> None:
        self.space = space
        self.rows = rows
        self.scales = scales
        self.reference = reference
        self._index = {point_key(row.params): number for number, row in enumerate(rows)}

    @property
    def max_epochs(self) -> int:
        """How many epochs each curve has."""
        return len(self.rows[0].accuracy)

    def find(self, params: Mapping[str, Any]) -> int | None:
        """Return the number of the row of a point; None if the table has no such point."""
        return self._index.get(point_key(dict(params)))

    def values(self, row: int, epoch: int) -> dict[str, float]:
        """Return what a trial of this row reports after an epoch, counted from 1."""
        found = self.rows[row]
        return {"accuracy": found.accuracy[epoch - 1], **found.costs}

    @cached_property
    def final(self) -> NDArray[np.float64]:
        """The scaled losses of all rows after their last epoch, float (rows, objectives)."""
        return self.scaled([self.values(row, self.max_epochs) for row in range(len(self.rows))])

    def scaled(self, values: list[dict[str, float]]) -> NDArray[np.float64]:
        """Return values as losses in the table's scale, float (n, objectives); 0 is the table's best."""
        columns = []
        losses = np.array([losses_of(each, self.space.objectives) for each in values], dtype=np.float64)
        for column, name in enumerate(self.space.objectives):
            scale, found = self.scales[name], losses[:, column]
            low, high = scale.low, scale.high
            if scale.log:
                low, high, found = np.log(low), np.log(high), np.log(found)
            columns.append((found - low) / (high - low))
        return np.stack(columns, axis=1)


def load_table(name: str) -> Table:
    """Read one of the tables that lie here.

    Raises:
        UsageError: it was not recorded.
    """
    if not (FOLDER / f"{name}.json.gz").is_file():
        raise UsageError(f"The table '{name}' isn't recorded: README.md beside the tables has the commands.")
    with gzip.open(FOLDER / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        return table_of(json.load(file))


def table_of(found: dict[str, Any]) -> Table:
    """Build a table from what its file holds."""
    rows = [
        Row(
            params=row["params"],
            accuracy=tuple(row["accuracy"]),
            seconds=tuple(row["seconds"]),
            costs=row["costs"],
        )
        for row in found["rows"]
    ]
    scales = {name: Scale(**scale) for name, scale in found["scales"].items()}
    return Table(Space.model_validate(found["space"]), rows, scales, found["reference"])
