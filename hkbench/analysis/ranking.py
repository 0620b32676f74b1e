"""Choices compared over seeds: which optimiser, which activation is best, and by how much it must be said."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from hkbench.analysis.intervals import Interval
from hkbench.analysis.trials import is_feasible
from hkbench.store.records import TrialRecord

SEED = "seed"
FEWEST_SEEDS = 2


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One choice: its mean accuracy on validation over seeds, and how far it lies below the first.

    Both intervals are at 95 %: the mean's with the spread between seeds that is common to all choices, the
    difference's for all comparisons with the first together (Dunnett 1955). The first has no `difference`.
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


def ranking(trials: Sequence[TrialRecord], parameter: str) -> list[Ranked]:
    """Rank the choices of a parameter by accuracy on validation, best first; empty without several seeds.

    Of each choice the setting with the most seeds counts, of several such the best. The first is chosen by
    the same figures that it is compared by, so its own mean is somewhat too good.
    """
    samples = {
        choice: found for choice, found in _samples(trials, parameter).items() if len(found) >= FEWEST_SEEDS
    }
    if len(samples) < 2:
        return []
    order = sorted(samples, key=lambda choice: -float(np.mean(samples[choice])))
    best, rest = samples[order[0]], [samples[choice] for choice in order[1:]]
    spread = _common_deviation(list(samples.values()))
    freedom = sum(len(found) - 1 for found in samples.values())
    intervals = _below_the_first(best, rest, spread)
    rows = []
    for choice, difference in zip(order, [None, *intervals], strict=True):
        mean, n = float(np.mean(samples[choice])), len(samples[choice])
        half = float(stats.t.ppf(0.975, freedom)) * spread / n**0.5
        accuracy = Interval(estimate=mean, low=mean - half, high=mean + half)
        rows.append(Ranked(choice=choice, seeds=n, accuracy=accuracy, difference=difference))
    return rows


def ranked_parameters(trials: Sequence[TrialRecord]) -> dict[str, list[Ranked]]:
    """Return the rankings of all parameters whose choices were tried with several seeds, by name."""
    names = dict.fromkeys(
        name for trial in trials for name, value in trial.params.items() if isinstance(value, str)
    )
    found = {name: ranking(trials, name) for name in names}
    return {name: rows for name, rows in found.items() if rows}


def _samples(trials: Sequence[TrialRecord], parameter: str) -> dict[str, list[float]]:
    """Return the accuracies of each choice over seeds, of the one setting of it that counts."""
    groups: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for trial in trials:
        if is_feasible(trial) and parameter in trial.params and SEED in trial.params:
            setting = json.dumps(_without_seed(trial.params), sort_keys=True)
            seed = int(trial.params[SEED])
            groups[str(trial.params[parameter])][setting][seed] = trial.metrics["accuracy"]
    return {
        choice: list(
            max(settings.values(), key=lambda found: (len(found), np.mean(list(found.values())))).values()
        )
        for choice, settings in groups.items()
    }


def _without_seed(params: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in params.items() if name != SEED}


def _common_deviation(samples: list[list[float]]) -> float:
    squares = sum(float(np.square(np.array(found) - np.mean(found)).sum()) for found in samples)
    return float(np.sqrt(squares / sum(len(found) - 1 for found in samples)))


def _below_the_first(best: list[float], rest: list[list[float]], spread: float) -> list[Interval]:
    """Return each other's mean minus the first's, with simultaneous intervals."""
    differences = [float(np.mean(found) - np.mean(best)) for found in rest]
    if spread == 0:  # equal answers for every seed: nothing to be unsure of
        return [Interval(estimate=value, low=value, high=value) for value in differences]
    compared = stats.dunnett(*rest, control=best, rng=np.random.default_rng(0)).confidence_interval(0.95)
    return [
        Interval(estimate=value, low=float(low), high=float(high))
        for value, low, high in zip(differences, compared.low, compared.high, strict=True)
    ]
