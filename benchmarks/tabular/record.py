"""Make a table from a finished run: `python -m benchmarks.tabular.record RUN NAME`.

The run is one of `hkbench search --space benchmarks/tabular/NAME.yaml --sampler grid`, whose trials all
trained to their end. README.md beside this file has the whole commands.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.tabular.table import FOLDER
from hkbench.analysis.trials import losses_of
from hkbench.errors import UsageError
from hkbench.spaces.file import load_space
from hkbench.spaces.space import STATIC, Space
from hkbench.store.rundir import RunDirectory

REFERENCE = 1.1
"""Each objective's worst of the table lies at 1, so that even what is worst in one has a volume."""
LOGARITHMIC = STATIC


def table_content(run: RunDirectory, name: str) -> dict[str, Any]:
    """Return what a table's file holds.

    Raises:
        UsageError: a trial of the run didn't train to its end, or the run is of another space.
    """
    record = run.read_run()
    space = load_space(str(FOLDER / f"{name}.yaml"))
    if space.parameters != Space.model_validate(record.config["space"]).parameters:
        raise UsageError(f"{run.path} has searched other parameters than those of {name}.yaml.")
    epochs = run.epochs()
    rows, last = [], space.schedule.max_epochs
    for trial in run.trials():
        curve = [row for row in epochs if row.trial == trial.number]
        if trial.seed_point is not None:
            continue  # the twin of the best student
        if [row.epoch for row in curve] != list(range(1, last + 1)):
            raise UsageError(f"Trial {trial.number} of {run.path} has {len(curve)} of {last} epochs.")
        costs = {name: value for name, value in trial.values.items() if name in STATIC}
        rows.append(
            {
                "params": trial.params,
                "accuracy": [round(row.metrics["accuracy"], 5) for row in curve],
                "seconds": [round(row.seconds, 2) for row in curve],
                "costs": costs,
            }
        )
    rows.sort(key=lambda row: json.dumps(row["params"], sort_keys=True))
    finals = [losses_of({"accuracy": row["accuracy"][-1], **row["costs"]}, space.objectives) for row in rows]
    scales = {}
    for column, name in enumerate(space.objectives):
        found = [losses[column] for losses in finals]
        scales[name] = {"low": min(found), "high": max(found), "log": name in LOGARITHMIC}
    return {
        "about": f"{len(rows)} points × {last} epochs of {record.data.name if record.data else 'pictures'}",
        "versions": record.versions,
        "hardware": record.hardware,
        "command": record.command,
        "reference": REFERENCE,
        "scales": scales,
        "space": space.model_dump(mode="json"),
        "rows": rows,
    }


def main(run: str, name: str) -> None:
    """Write the table of a run."""
    content = json.dumps(table_content(RunDirectory.open(Path(run)), name), separators=(",", ":"))
    path = FOLDER / f"{name}.json.gz"
    path.write_bytes(gzip.compress(content.encode(), mtime=0))
    print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
