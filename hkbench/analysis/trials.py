"""Which trials count and which of them no other beats: one answer for the search, its end and the report."""

from collections.abc import Mapping, Sequence

import numpy as np

from hkbench.analysis.frontier import non_dominated
from hkbench.store.records import TrialRecord


def is_feasible(trial: TrialRecord) -> bool:
    """Whether a trial ran to its end and breaks no limit; a confirmation, chosen after, never counts."""
    complete = trial.state == "COMPLETE" and trial.confirms is None
    return complete and all(violation <= 0 for violation in trial.constraints.values())


def losses_of(values: Mapping[str, float | None], objectives: Mapping[str, str]) -> list[float]:
    """Return the objectives with those to be maximised negated; NaN where one is missing."""
    found = []
    for name, direction in objectives.items():
        value = values.get(name)
        found.append(float("nan") if value is None else -value if direction == "maximize" else value)
    return found


def frontier_numbers(trials: Sequence[TrialRecord], objectives: Mapping[str, str]) -> frozenset[int]:
    """Return the numbers of the feasible trials that no other of them beats in every objective."""
    counting = [trial for trial in trials if is_feasible(trial)]
    if not counting or not objectives:
        return frozenset()
    kept = non_dominated(np.array([losses_of(trial.values, objectives) for trial in counting]))
    return frozenset(trial.number for trial, on_it in zip(counting, kept, strict=True) if on_it)
