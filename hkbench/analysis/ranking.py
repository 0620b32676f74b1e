"""Choices compared over seeds: which optimiser, which activation is best, and by how much it must be said."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from hkbench.analysis.intervals import Interval
from hkbench.analysis.trials import is_feasible
from hkbench.store.records import TrialRecord

SEED = "seed"
FEWEST_SEEDS = 2
MOST_NUMBERS = 12  # a parameter with more numbers than these is a range that was sampled, not a choice


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One choice: its mean accuracy on validation over seeds, and how far it lies below the first.

    Both intervals are at 95 % and take the spread between seeds as common to all choices: the mean's for
    itself, the difference's for all pairs of choices together (Tukey's HSD). The first has no `difference`.
    """

    choice: str
    seeds: int
    accuracy: Interval
    difference: Interval | None

    @property
    def verdict(self) -> str:
        """What may be said of the choice against the first."""
        if self.difference is None:
            return "first"
        return "no difference shown" if self.difference.holds_zero else "worse"


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """A parameter's choices, two or more, best first; `left_out` are those without two seeds that count."""

    parameter: str
    rows: tuple[Ranked, ...]
    left_out: tuple[str, ...]


def ranking(trials: Sequence[TrialRecord], parameter: str) -> Ranking | None:
    """Rank the choices of a parameter by mean accuracy on validation; None where fewer than two have seeds.

    A choice may have been tried in several settings of all else. The one with the most seeds counts, of
    several such the one that was tried first: a rule that doesn't look at accuracies, since the best of
    several equal settings would look better than it is. Trials that were cut off, or break a limit, don't
    count.
    """
    samples = _samples(trials, parameter)
    ranked = {choice: found for choice, found in samples.items() if len(found) >= FEWEST_SEEDS}
    if len(ranked) < 2:
        return None
    return Ranking(
        parameter=parameter,
        rows=_rows(dict(sorted(ranked.items(), key=lambda item: -float(np.mean(item[1]))))),
        left_out=tuple(choice for choice in samples if choice not in ranked),
    )


def ranked_parameters(trials: Sequence[TrialRecord]) -> tuple[Ranking, ...]:
    """Return the rankings of all parameters whose choices were tried with several seeds.

    A parameter of numbers has choices if there are at most 12 of them and no more are left out than ranked;
    else it is a range, from which a search has drawn.
    """
    names = dict.fromkeys(name for trial in trials for name in trial.params if name != SEED)
    found = [ranking(trials, name) for name in names]
    return tuple(each for each in found if each is not None and _has_choices(each, trials))


def _has_choices(found: Ranking, trials: Sequence[TrialRecord]) -> bool:
    """Whether a parameter has choices: numbers have if they are few, and seldom tried with one seed alone."""
    values = [trial.params[found.parameter] for trial in trials if found.parameter in trial.params]
    if all(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        return True
    return len(set(map(str, values))) <= MOST_NUMBERS and len(found.left_out) <= len(found.rows)


def _samples(trials: Sequence[TrialRecord], parameter: str) -> dict[str, list[float]]:
    """Return each choice's accuracies over seeds in the one setting that counts; none where no trial does."""
    choices: dict[str, dict[str, dict[int, float]]] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        if parameter not in trial.params or SEED not in trial.params:
            continue
        settings = choices.setdefault(str(trial.params[parameter]), defaultdict(dict))
        if is_feasible(trial):
            setting = {name: value for name, value in trial.params.items() if name != SEED}
            of_seeds = settings[json.dumps(setting, sort_keys=True)]
            of_seeds.setdefault(int(trial.params[SEED]), trial.metrics["accuracy"])
    # Of equally many seeds max takes the first setting, whose trial has the lowest number.
    return {
        choice: list(max(found.values(), key=len, default={}).values()) for choice, found in choices.items()
    }


def _rows(samples: dict[str, list[float]]) -> tuple[Ranked, ...]:
    """Return a row for each choice of `samples`, which begin with the best."""
    from scipy.stats import t  # not with the module: it takes half a second

    freedom = sum(len(found) - 1 for found in samples.values())
    squares = sum(float(np.square(np.subtract(found, np.mean(found))).sum()) for found in samples.values())
    spread = (squares / freedom) ** 0.5
    first, *_ = samples.values()
    rows: list[Ranked] = []
    for choice, found in samples.items():
        mean, own = float(np.mean(found)), float(t.ppf(0.975, freedom)) * spread / len(found) ** 0.5
        shared = (
            _critical_range(len(samples), freedom) * spread * (0.5 / len(found) + 0.5 / len(first)) ** 0.5
        )
        difference = _around(mean - float(np.mean(first)), shared) if rows else None
        rows.append(
            Ranked(choice=choice, seeds=len(found), accuracy=_around(mean, own), difference=difference)
        )
    return tuple(rows)


@cache
def _critical_range(choices: int, freedom: int) -> float:
    """Return what the range of so many equal means, in their standard errors, exceeds once in 20 times.

    Tukey 1953, "The problem of multiple comparisons", and Kramer 1956 for unequal numbers of seeds: the
    intervals of all pairs of choices hold together at 95 %. All pairs, though only those with the first are
    told, since the first is whichever came out best. A test against one that was named beforehand (Dunnett
    1955) would find a difference among 12 equal choices in 18 of 100 cases.
    """
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(0.95, choices, freedom))


def _around(estimate: float, half: float) -> Interval:
    return Interval(estimate=estimate, low=estimate - half, high=estimate + half)
