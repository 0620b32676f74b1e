"""`hkbench.search`: what the command does, from Python.

```python
study = hkbench.search("distill", "pictures/", budget="30m")
study.trials().sort_values("accuracy")
study.frontier()
```
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Self

import optuna
import pandas as pd

from hkbench.analysis.trials import frontier_numbers
from hkbench.cli.live import PlainLines
from hkbench.errors import UsageError
from hkbench.report.page import build_report
from hkbench.runs.parts import SearchListener
from hkbench.runs.planning import planned
from hkbench.runs.search import run_search
from hkbench.spaces.space import Space
from hkbench.store.findings import FindingsRecord, read_findings
from hkbench.store.rundir import RunDirectory
from hkbench.study.storage import STUDY_FILE, Places, RunStorage, command_without_passwords


@dataclass(frozen=True)
class Study:
    """A search that was made, read from its run directory whenever it is asked."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the run directory of an earlier search.

        Raises:
            UsageError: `path` is none.
        """
        return cls(RunDirectory.open(Path(path)).path)

    @property
    def run(self) -> RunDirectory:
        """The records, as docs/formats.md describes them."""
        return RunDirectory(self.path)

    @property
    def objectives(self) -> dict[str, str]:
        """Objective → maximize or minimize."""
        return dict(self.run.read_run().config["space"]["objectives"])

    def trials(self) -> pd.DataFrame:
        """Return a row for each trial, by number: state, reason, parameters, objectives and metrics."""
        trials = self.run.trials()
        best = frontier_numbers(trials, self.objectives)
        rows = [
            {
                "number": trial.number,
                "state": trial.state,
                "reason": trial.reason,
                "model": trial.model,
                "image_size": trial.image_size,
                "epochs": trial.epochs,
                "on_frontier": trial.number in best,
                **{f"params_{name}": value for name, value in trial.params.items()},
                **trial.metrics,
                **trial.values,
            }
            for trial in trials
        ]
        return pd.DataFrame(rows).set_index("number") if rows else pd.DataFrame()

    def frontier(self) -> pd.DataFrame:
        """Return the rows of the trials that no other beats, the best of the first objective first."""
        found = self.trials()
        if found.empty:
            return found
        first, direction = next(iter(self.objectives.items()))
        return found[found["on_frontier"]].sort_values(first, ascending=direction == "minimize")

    def models(self) -> pd.DataFrame:
        """Return a row for each file that was shipped, the teacher's among them."""
        return pd.DataFrame([model.model_dump(mode="json") for model in self.run.model_records()])

    def findings(self) -> FindingsRecord | None:
        """Return what the search says of its parameters and of T and α; None where it hasn't ended."""
        return read_findings(self.run)

    def report(self) -> Path:
        """Write the report anew and return where it is."""
        return build_report(self.run)

    def optuna(self, storage: str | None = None) -> optuna.Study:
        """Return the Optuna study behind it, to read: its values, distributions and plots.

        `storage` is the URL of a database that the search was given, with its password. A study that is
        changed by hand is no longer what its records say.
        """
        record = self.run.read_run()
        place = RunStorage.of(self.path, record.config["space"]["name"], Places(study=storage))
        return optuna.load_study(study_name=place.name, storage=place.open(self.path))

    @property
    def journal(self) -> Path:
        """The file for `optuna-dashboard`, unless the study is kept elsewhere by `storage`."""
        return self.path / STUDY_FILE


def search(
    space: str | Path | Space = "distill",
    data: str | Path = "goods69",
    *,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    trials: int | str | None = None,
    budget: str | None = None,
    listener: SearchListener | None = None,
    logs: str | Sequence[str] = (),
    **flags: Any,
) -> Study:
    """Search as `hkbench search` does, and return the study; lines on standard error tell how it goes.

    Args:
        space: a shipped space by name, a YAML file, or a space that was loaded, which is taken as it is.
        data: goods69, or a folder with one folder for each class.
        out: the run directory; a new results/<space> by default.
        overrides: keys of the space and their values, such as {"schedule.reduction": 2}.
        trials: how many at most; with resume=True also "+50".
        budget: what the trials may take, such as "10m".
        listener: told of everything, in place of the lines.
        logs: tensorboard, mlflow, or both.
        flags: the other flags of the command by their names with underscores, such as seed=1, resume=True,
            max_concurrent=2, confirm=3.

    Raises:
        UsageError: input that can't be used, with what was expected.
        StoppedError: Ctrl-C; `resume=True` goes on.
        HkbenchError: storage or Ray was lost, or no trial came to its end.

    Some of its processes import the calling program, so guard that: `if __name__ == "__main__":`.
    """
    unknown = flags.keys() - (signature(planned).parameters.keys() - {"command"})
    if unknown:
        raise UsageError(
            f"hkbench.search takes no {', '.join(sorted(unknown))}. The flags are those of "
            "'hkbench search --help'."
        )
    plan = planned(
        space,
        str(data),
        out=Path(out) if out is not None else None,
        overrides={
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in (overrides or {}).items()
        },
        trials=str(trials) if trials is not None else None,
        budget=budget,
        logs=logs,
        command=command_without_passwords(sys.argv),
        **flags,
    )
    if listener is not None:
        result = run_search(plan, listener)
    else:
        with PlainLines(plan) as lines:
            result = run_search(plan, lines)
    build_report(result.run)
    return Study(result.run.path)
