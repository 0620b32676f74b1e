"""What proposes the next point: Optuna's samplers by name, and a grid that knows of conditions."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import optuna
from optuna.samplers import BaseSampler

from hkbench.errors import unknown

STARTUP_TRIALS = 8


def build_sampler(name: str, seed: int) -> BaseSampler:
    """Build a sampler by its name.

    Raises:
        UsageError: there is no such sampler.
    """
    if name not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)
    with experimental_parts():
        return SAMPLERS[name](seed)


def _tpe(seed: int) -> BaseSampler:
    """Build the multi-objective tree-structured Parzen estimator (NeurIPS 2011; JAIR 2022).

    Conditional spaces need `group`; `constant_liar` counts running trials as poor, so that trials that
    start together differ.
    """
    return optuna.samplers.TPESampler(
        multivariate=True, group=True, n_startup_trials=STARTUP_TRIALS, seed=seed, constant_liar=True
    )


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


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": _tpe,
    "gp": _gp,
    "nsga2": _nsga2,
    "random": _random,
    "qmc": _qmc,
    "grid": _random,
}
"""Name → how the sampler is built from a seed. Of a grid the study itself draws the points."""


@contextmanager
def experimental_parts() -> Iterator[None]:
    """Use parts of Optuna that it calls experimental; the lock file fixes the version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
