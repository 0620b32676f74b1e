"""Make a table from finished runs: `python -m benchmarks.tabular.record NAME RUN [RUN ...]`.

A run is one of `hkbench search --space benchmarks/tabular/NAME.yaml --sampler grid`. A point whose trial was
lost may be in another run of the same settings; together they hold every point of the space, trained to its
end. README.md beside this file has the whole commands.
"""

import gzip
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.tabular.table import FOLDER
from hkbench.analysis.trials import losses_of
from hkbench.errors import UsageError
from hkbench.spaces.file import load_space
from hkbench.spaces.space import STATIC, Space
from hkbench.store.records import EpochRecord, RunRecord
from hkbench.store.rundir import RunDirectory
from hkbench.study.points import point_key

REFERENCE = 1.1
"""Each objective's worst of the table lies at 1, so that even what is worst in one has a volume."""
LOGARITHMIC = STATIC
SAME = ("data", "split", "split_seed", "seed", "views", "train_pictures")
"""Of the run's settings, those that decide a curve; the space has the others."""


def table_content(name: str, runs: Sequence[RunDirectory]) -> dict[str, Any]:
    """Return what a table's file holds.

    Raises:
        UsageError: a point of the space wasn't trained to its end, or a run has other settings.
    """
    space, record = load_space(str(FOLDER / f"{name}.yaml")), runs[0].read_run()
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        _refuse_other(run, space, record)
        found = _rows_of(run, space.schedule.max_epochs) | found
    points = space.points() or []
    lacking = [point for point in points if point_key(point) not in found]
    if lacking:
        raise UsageError(
            f"{len(lacking)} of {len(points)} points weren't trained to their end: {lacking[:3]}"
        )
    rows = [found[point_key(point)] for point in points]
    rows.sort(key=lambda row: json.dumps(row["params"], sort_keys=True))
    finals = [losses_of({"accuracy": row["accuracy"][-1], **row["costs"]}, space.objectives) for row in rows]
    scales = {}
    for column, name in enumerate(space.objectives):
        found = [losses[column] for losses in finals]
        scales[name] = {"low": min(found), "high": max(found), "log": name in LOGARITHMIC}
    return {
        "about": f"{len(rows)} points × {space.schedule.max_epochs} epochs of "
        f"{record.data.name if record.data else 'pictures'}",
        "versions": record.versions,
        "hardware": record.hardware,
        "settings": {key: record.config.get(key) for key in SAME},
        "reference": REFERENCE,
        "scales": scales,
        "space": space.model_dump(mode="json"),
        "rows": rows,
    }


def _refuse_other(run: RunDirectory, space: Space, first: RunRecord) -> None:
    record = run.read_run()
    if space.parameters != Space.model_validate(record.config["space"]).parameters:
        raise UsageError(f"{run.path} has searched other parameters than those of the table's space.")
    other = [key for key in SAME if record.config.get(key) != first.config.get(key)]
    if other:
        raise UsageError(f"{run.path} differs from the first run in {', '.join(other)}.")


def _rows_of(run: RunDirectory, last: int) -> dict[str, dict[str, Any]]:
    """Return point → row of the trials that trained to their end; of two of one point the first."""
    curves: dict[int, list[EpochRecord]] = {}
    for epoch in run.epochs():
        curves.setdefault(epoch.trial, []).append(epoch)
    found: dict[str, dict[str, Any]] = {}
    for trial in run.trials():
        curve = curves.get(trial.number, [])
        if [row.epoch for row in curve] == list(range(1, last + 1)) and trial.confirms is None:
            row = {
                "params": trial.params,
                "accuracy": [round(row.metrics["accuracy"], 5) for row in curve],
                "seconds": [round(row.seconds, 2) for row in curve],
                "costs": {name: value for name, value in trial.values.items() if name in STATIC},
            }
            found.setdefault(point_key(trial.params), row)
    return found


def main(name: str, *runs: str) -> None:
    """Write the table of some runs."""
    content = json.dumps(
        table_content(name, [RunDirectory.open(Path(run)) for run in runs]), separators=(",", ":")
    )
    path = FOLDER / f"{name}.json.gz"
    path.write_bytes(gzip.compress(content.encode(), mtime=0))
    print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
