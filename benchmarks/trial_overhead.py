"""What a trial costs beside its training: the time between the ends of trials that train one step."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.claim import Claim, machine, main
from benchmarks.peers.apart import run_apart
from hkbench.driver.plan import SearchPlan
from hkbench.runs.search import run_search
from hkbench.spaces.file import load_space
from hkbench.spaces.space import Schedule
from hkbench.training.teacher import TeacherRecipe

TARGET_S = 0.15
PEER_TRIALS = 4
PICTURES_A_CLASS = 10
SIZE = 56


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
    """Time trials of one step on a warm worker, and those of Ray's default, a new process for each."""
    trials = 10 if quick else 30
    with tempfile.TemporaryDirectory() as folder:
        pictures = _pictures(Path(folder) / "pictures")
        space = load_space("distill", {"start_with": "[]"})
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
        target=f"at most {TARGET_S} s to the first trained step on a warm worker",
        holds=median <= TARGET_S,
        details={
            "what": "from one trial's end to the next one's: build, one step, evaluation, checkpoint",
            "trials": trials,
            "models": space.parameters["model"].model_dump()["choices"],
            "longest_s": max(gaps),
            "shortest_s": min(gaps),
            "ray_default_s": _ray_default(),
            **machine(threads=1),
        },
    )


def _ray_default() -> float:
    """Return the same time for a function trainable as Ray's documentation has it, in a Ray of its own."""
    return float(run_apart("benchmarks.peers.one_step", {"trials": PEER_TRIALS}))


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
