"""When which process of a search is killed: drawn at random from a seed, over all that a search does."""

import random
from dataclasses import dataclass
from typing import Literal

Phase = Literal["start-up", "training", "export"]
Victim = Literal["driver", "worker", "raylet", "machine"]

MOST_EPOCHS = 8
"""A kill in training comes after so many epochs at most, so that a search lives through all of its kills."""
IN_A_SEARCH: tuple[tuple[Phase, Victim], ...] = (
    ("start-up", "driver"),
    ("start-up", "driver"),
    ("start-up", "machine"),
    ("training", "driver"),
    ("training", "driver"),
    ("training", "driver"),
    ("training", "worker"),
    ("training", "raylet"),
    ("training", "machine"),
    ("export", "driver"),
)
"""What is killed when in each search, in another order each time; what is past training comes last."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A moment, told by what the search has done by then, so that it is the same on any machine.

    In `training` it is within the epoch that begins as the `epochs`-th after the start or the last kill.
    `share`, in [0, 1), says how far into the epoch, the start-up or the export.
    """

    phase: Phase
    victim: Victim
    epochs: int
    share: float


def moments_of(seed: int, kinds: tuple[tuple[Phase, Victim], ...] = IN_A_SEARCH) -> list[Moment]:
    """Return the moments at which one search is killed, one after the other."""
    rng = random.Random(seed)
    early = [kind for kind in kinds if kind[0] != "export"]
    rng.shuffle(early)
    return [
        Moment(phase=phase, victim=victim, epochs=rng.randint(1, MOST_EPOCHS), share=rng.random())
        for phase, victim in (*early, *(kind for kind in kinds if kind[0] == "export"))
    ]
