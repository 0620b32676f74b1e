"""Prints the Markdown table of some trainings, for results/models and results/cuts.

    python -m tools.models_table results/models/*

Each folder is a run of `hkbench train`; its one student, or network without a teacher, is a row. The best row
by test accuracy is compared with each other by McNemar's test on the same pictures.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from hkbench.analysis.compare import mcnemar
from hkbench.analysis.evaluation import part_metrics
from hkbench.analysis.predictions import PredictionBlock, correct, read_predictions
from hkbench.store.records import ModelRecord
from hkbench.store.rundir import RunDirectory

HEADER = (
    "| network | px | test accuracy | log loss | bytes | epochs | seconds | p against the best |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One training: its exported file, what that answered on the test part, and how long training took."""

    model: ModelRecord
    answers: PredictionBlock
    seconds: float


def read_row(folder: Path) -> Row:
    """Read the one network of a run that was trained there."""
    run = RunDirectory.open(folder)
    (model,) = (each for each in run.model_records() if each.role != "teacher")
    (trial,) = run.trials()
    return Row(
        model=model,
        answers=next(
            block
            for block in read_predictions(run.predictions)
            if (block.model_id, block.part) == (model.id, "test")
        ),
        seconds=trial.usage.seconds if trial.usage else float("nan"),
    )


def line(row: Row, best: Row) -> str:
    """Return a row of the table."""
    found = part_metrics(row.answers)
    metrics, (low, high) = found.metrics, found.intervals["accuracy"]
    p_value = mcnemar(correct(best.answers), correct(row.answers)).p_value
    against = "–" if row is best else "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"
    return (
        f"| `{row.model.model}` | {row.model.image_size} | {metrics['accuracy']:.1%} "
        f"({100 * low:.1f} to {100 * high:.1f}) | {metrics['log_loss']:.2f} | {row.model.size_bytes:,} "
        f"| {row.model.epochs} | {row.seconds:.0f} | {against} |"
    )


def main() -> None:
    """Print the table of the folders that are named."""
    rows = [read_row(Path(folder)) for folder in sys.argv[1:]]
    best = max(rows, key=lambda row: float(correct(row.answers).mean()))
    print("\n".join([HEADER, *(line(row, best) for row in rows)]))


if __name__ == "__main__":
    main()
