"""What a trial costs beside its training: the time between two ends of trials that train next to nothing."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.claim import Claim, main
from hkbench.search.plan import SearchPlan
from hkbench.search.search import run_search
from hkbench.search.space import Schedule, load_space
from hkbench.training.teacher import TeacherRecipe

TARGET_S = 0.3
PICTURES_A_CLASS = 10
SIZE = 32


class Clock:
    """A listener that notes when trials end."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def trial_ended(self, trial: Any) -> None:
        """Note the moment."""
        del trial
        self.ends.append(time.perf_counter())

    def __getattr__(self, name: str) -> Any:
        """Hear nothing else."""
        return _nothing


def _nothing(*_: object) -> None:
    """Do nothing with what is heard."""


def measure(quick: bool) -> Claim:
    """Time a trial that trains one step on a warm worker."""
    trials = 8 if quick else 30
    with tempfile.TemporaryDirectory() as folder:
        pictures = _pictures(Path(folder) / "pictures")
        space = load_space("distill", {"parameters.model.choices": "[household_s]", "start_with": "[]"})
        plan = SearchPlan(
            space=space.model_copy(
                update={
                    "schedule": Schedule(trials=trials, max_epochs=1),
                    "defaults": {"image_size": SIZE, "batch_size": 8},
                    "teacher": TeacherRecipe(model="household_s", image_size=SIZE, max_epochs=1),
                }
            ),
            out=Path(folder) / "run",
            data=str(pictures),
            views=1,
            quick=True,
        )
        clock = Clock()
        run_search(plan, clock)
    gaps = [after - before for before, after in zip(clock.ends, clock.ends[1:], strict=False)]
    median = statistics.median(gaps)
    return Claim(
        name="trial_overhead",
        value=median,
        unit="s",
        target=f"under {TARGET_S} s after the first trial",
        holds=median < TARGET_S,
        details={"trials": trials, "longest_s": max(gaps), "shortest_s": min(gaps)},
    )


def _pictures(folder: Path) -> Path:
    """Write two classes of small noise pictures."""
    rng = np.random.default_rng(0)
    for name in ("cup", "plate"):
        (folder / name).mkdir(parents=True)
        for number in range(PICTURES_A_CLASS):
            Image.fromarray(rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)).save(
                folder / name / f"{number}.png"
            )
    return folder


if __name__ == "__main__":
    main(measure)
