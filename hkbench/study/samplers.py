"""What proposes the next point: Optuna's samplers by name, and a grid that knows of conditions."""

import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from hkbench.errors import unknown

STARTUP_TRIALS = 8


def build_sampler(name: str, seed: int, derived: Collection[str] = ()) -> BaseSampler:
    """Build a sampler by its name.

    Args:
        name: one of `SAMPLERS`.
        seed: of everything random.
        derived: parameters whose limits follow another's value. TPE would keep the limits that they had in
            the first trial, so it draws each of them by itself.

    Raises:
        UsageError: there is no such sampler.
    """
    if name not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)
    with experimental_parts():
        sampler = SAMPLERS[name](seed)
    if isinstance(sampler, _Tpe):
        sampler.derived = frozenset(derived)
    return sampler


class _Tpe(optuna.samplers.TPESampler):
    """TPE that models some parameters each by itself."""

    derived: frozenset[str] = frozenset()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the parameters that are modelled together."""
        found = super().infer_relative_search_space(study, trial)
        return {name: known for name, known in found.items() if name not in self.derived}


def _tpe(seed: int) -> BaseSampler:
    """Build the multi-objective tree-structured Parzen estimator (NeurIPS 2011; JAIR 2022).

    Conditional spaces need `group`; `constant_liar` counts running trials as poor, so that trials that
    start together differ.
    """
    return _Tpe(multivariate=True, group=True, n_startup_trials=STARTUP_TRIALS, seed=seed, constant_liar=True)


def _gp(seed: int) -> BaseSampler:
    """Build a Gaussian process with the expected improvement of the hypervolume."""
    return optuna.samplers.GPSampler(
        seed=seed, n_startup_trials=STARTUP_TRIALS, deterministic_objective=False
    )


def _nsga2(seed: int) -> BaseSampler:
    """Build the genetic algorithm NSGA-II (IEEE TEC 2002)."""
    return optuna.samplers.NSGAIISampler(seed=seed)


def _qmc(seed: int) -> BaseSampler:
    """Build a scrambled Sobol sequence, which fills a space more evenly than chance."""
    return optuna.samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)


def _random(seed: int) -> BaseSampler:
    """Build independent draws; `grid` takes them too, for what it leaves open: nothing."""
    return optuna.samplers.RandomSampler(seed=seed)


FRONTIER = "frontier"
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    FRONTIER: _random,
    "tpe": _tpe,
    "gp": _gp,
    "nsga2": _nsga2,
    "random": _random,
    "qmc": _qmc,
    "grid": _random,
}
"""Name → how the sampler is built from a seed. `frontier` is hkbench's own, in `proposer`; of a grid the
study itself draws the points.
"""


@contextmanager
def experimental_parts() -> Iterator[None]:
    """Use parts of Optuna that it calls experimental; the lock file fixes the version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
