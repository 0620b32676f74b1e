"""Which parameters tell most of how good a trial is: PED-ANOVA, with intervals over trials."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hkbench.analysis.trials import losses_of
from hkbench.store.findings import ImportanceRecord
from hkbench.store.records import TrialRecord

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

RESAMPLES = 200
FEWEST_TRIALS = 20
FEWEST_ACTIVE = 10
FEWEST_BEST = 5
"""Of the trials that count as the best: what Optuna asks for, so that their density can be told."""
BEST_SHARE = 0.1
OFTEN = 0.95


def importances(
    trials: Sequence[TrialRecord],
    objectives: Mapping[str, str],
    distributions: Mapping[str, "BaseDistribution"],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[ImportanceRecord]:
    """Return how much each parameter tells of each objective, the objectives in turn, most telling first.

    By PED-ANOVA (Watanabe et al., arXiv 2304.10255), as Optuna extends it to parameters that some trials lack
    (arXiv 2601.20800): the density of a parameter among the best tenth of the trials, and five at least, is
    held against its density among all. That gives the variance of "is one of the best" which the parameter
    explains alone; divided by the whole variance, q(1 − q) for a share q of best trials, it is a share. What
    two parameters explain together only is in neither. The densities are smoothed, so that with few trials
    even what decides everything stays below 1, and what decides nothing is above 0: hence `chance`, from
    values dealt to the trials at random. Intervals are percentiles over trials drawn with replacement.

    Only trials of the search itself that ran to their end count: a trial that was stopped has no last value,
    a confirmation was chosen for the value of another. Trials outside the given distributions, which a study
    has that went on in a narrower space, are left out.
    """
    found: list[ImportanceRecord] = []
    for name, direction in objectives.items():
        counting = [
            trial
            for trial in trials
            if trial.state == "COMPLETE"
            and trial.confirms is None
            and not math.isnan(losses_of(trial.values, {name: direction})[0])
            and _within(trial, distributions)
        ]
        losses = np.array([losses_of(trial.values, {name: direction})[0] for trial in counting])
        found += _of_objective(name, counting, losses, distributions, resamples, seed)
    return found


def _of_objective(
    objective: str,
    trials: Sequence[TrialRecord],
    losses: NDArray[np.float64],
    distributions: Mapping[str, "BaseDistribution"],
    resamples: int,
    seed: int,
) -> list[ImportanceRecord]:
    whole = _no_answer(objective, losses)
    reasons = {name: whole or _unspread(name, trials) for name in distributions}
    telling = {name: distributions[name] for name, reason in reasons.items() if reason is None}
    active = {name: sum(name in trial.params for trial in trials) for name in distributions}
    rows = [
        ImportanceRecord(parameter=name, objective=objective, trials=active[name], reason=reason)
        for name, reason in reasons.items()
        if reason is not None
    ]
    if not telling:
        return rows
    sample = _Sample(trials, telling)
    rng = np.random.default_rng(seed)
    everyone = np.arange(len(trials))
    values = sample.shares(everyone, losses)
    drawn = [rng.integers(0, len(trials), len(trials)) for _ in range(resamples)]
    resampled = np.array([sample.shares(places, losses[places]) for places in drawn])
    dealt = np.array([sample.shares(everyone, rng.permutation(losses)) for _ in range(resamples)])
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    chance = np.quantile(dealt, OFTEN, axis=0)
    told = [
        ImportanceRecord(
            parameter=name,
            objective=objective,
            value=float(values[place]),
            low=float(low[place]),
            high=float(high[place]),
            chance=float(chance[place]),
            trials=active[name],
        )
        for place, name in enumerate(telling)
    ]
    return sorted(told, key=lambda row: -(row.value or 0.0)) + rows


def _within(trial: TrialRecord, distributions: Mapping[str, "BaseDistribution"]) -> bool:
    """Whether every value of a trial is one that its distribution holds."""
    return all(
        name in distributions and _holds(distributions[name], value) for name, value in trial.params.items()
    )


def _holds(distribution: "BaseDistribution", value: object) -> bool:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return isinstance(value, int | float) and distribution.low <= value <= distribution.high


def _no_answer(objective: str, losses: NDArray[np.float64]) -> str | None:
    """Return why no parameter's importance can be told; None if it can."""
    if len(losses) < FEWEST_TRIALS:
        return f"{len(losses)} trials ran to their end with {objective}; it needs {FEWEST_TRIALS}"
    if _best(losses).all():
        return f"too many trials have the same {objective} for any to be the best"
    return None


def _unspread(name: str, trials: Sequence[TrialRecord]) -> str | None:
    """Return why a parameter's importance can't be told; None if it can."""
    values = [trial.params[name] for trial in trials if name in trial.params]
    if len(values) < FEWEST_ACTIVE:
        return f"{len(values)} trials had a value for it; it needs {FEWEST_ACTIVE}"
    if len(set(values)) < 2:
        return f"all {len(values)} trials had the same value, {values[0]}"
    return None


def _best(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the trials that count as the best; equal ones stand or fall together."""
    count = max(FEWEST_BEST, math.ceil(BEST_SHARE * len(losses)))
    marked: NDArray[np.bool_] = losses <= np.partition(losses, count - 1)[count - 1]
    return marked


class _Sample:
    """Trials that are drawn again and again, each time with the shares that parameters explain in them."""

    def __init__(
        self, trials: Sequence[TrialRecord], distributions: Mapping[str, "BaseDistribution"]
    ) -> None:
        from optuna import Study, logging  # not with the module: a report needs this room, but no Optuna
        from optuna.storages import InMemoryStorage
        from optuna.study import StudyDirection

        class Drawn(Study):
            """A study that is nothing but the trials that were drawn, some of them several times."""

            trials_drawn: Sequence["FrozenTrial"] = ()

            def get_trials(self, deepcopy: bool = True, states: object = None) -> list["FrozenTrial"]:
                del deepcopy, states
                return list(self.trials_drawn)

        logging.set_verbosity(logging.ERROR)  # it tells of each study that it makes
        storage = InMemoryStorage()
        number = storage.create_new_study([StudyDirection.MINIMIZE])
        self._study = Drawn(study_name=storage.get_study_name_from_id(number), storage=storage)
        self._trials = trials
        self._distributions = distributions

    def shares(self, rows: NDArray[np.int64], losses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share that each parameter explains, float64 (parameters,), in the trials at `rows`.

        Args:
            rows: int64 (n,), places of trials; one that comes twice counts twice.
            losses: float64 (n,), their values, to be minimised.
        """
        from optuna.importance import PedAnovaImportanceEvaluator

        share = float(_best(losses).mean())
        if share == 1.0:
            return np.zeros(len(self._distributions))
        self._study.trials_drawn = [
            self._frozen(int(row), float(loss)) for row, loss in zip(rows, losses, strict=True)
        ]
        # A little less than so many of n: Optuna rounds up, and ties come in by themselves.
        evaluator = PedAnovaImportanceEvaluator(target_quantile=share - 0.5 / len(rows))
        with _quiet():
            found = evaluator.evaluate(self._study)
        explained = np.array([found.get(name, 0.0) for name in self._distributions])
        return np.clip(explained / (share * (1 - share)), 0.0, 1.0)

    def _frozen(self, row: int, loss: float) -> "FrozenTrial":
        from optuna.trial import FrozenTrial, TrialState

        params = {name: self._trials[row].params[name] for name in self._distributions
                  if name in self._trials[row].params}  # fmt: skip
        return FrozenTrial(
            number=row, trial_id=row, state=TrialState.COMPLETE, value=loss, datetime_start=None,
            datetime_complete=None, params=params, user_attrs={}, system_attrs={}, intermediate_values={},
            distributions={name: self._distributions[name] for name in params},
        )  # fmt: skip


@contextmanager
def _quiet() -> Iterator[None]:
    """Pass over Optuna's warning that some draw has a parameter in one trial only: such a one counts as 0."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Some regimes for parameter")
        yield
