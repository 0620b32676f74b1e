"""Ray Tune's `OptunaSearch` and its schedulers, called as its controller calls them, without Ray running."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import NSGAIISampler, RandomSampler
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.tabular.simulator import Asked
from benchmarks.tabular.table import Table

TIME = "training_iteration"
REDUCTION = 3
MODES = {"maximize": "max", "minimize": "min"}


@dataclass(frozen=True, kw_only=True)
class TuneTrial:
    """What searchers and schedulers read of a `ray.tune` trial."""

    trial_id: str
    config: dict[str, Any]


class TuneStrategy:
    """A searcher and a scheduler of Ray Tune.

    The calls and their order are those of `TuneController._process_trial_result` and `stop_trial` in Ray 2.60
    for `stop={"training_iteration": max_epochs}`: the scheduler hears a report first, the searcher hears of
    it if the trial goes on, and both hear of the end with the last report.
    """

    def __init__(self, table: Table, searcher: OptunaSearch, scheduler: TrialScheduler) -> None:
        self._table = table
        self._searcher = searcher
        self._scheduler = scheduler
        self._live: dict[int, TuneTrial] = {}
        self._asked = 0

    def suggest(self) -> Asked | None:
        """Return the searcher's next point, whether it is a new one or not."""
        key, trial_id = self._asked, f"{self._asked:08x}"
        self._asked += 1
        trial = TuneTrial(trial_id=trial_id, config=self._searcher.suggest(trial_id))
        self._live[key] = trial
        self._scheduler.on_trial_add(None, trial)
        return Asked(key=key, params=self._table.space.completed(trial.config))  # without what isn't active

    def on_epoch(self, key: int, epoch: int, values: dict[str, float]) -> bool:
        """Ask the scheduler whether the trial goes on, and tell the searcher if so."""
        trial, result = self._live[key], {**values, TIME: epoch}
        if self._scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP:
            return False
        self._searcher.on_trial_result(trial.trial_id, result)
        return True

    def on_end(self, key: int, epoch: int, values: dict[str, float], complete: bool) -> None:  # noqa: ARG002
        """Tell both of the end; Tune makes no difference between a stopped trial and a complete one."""
        trial, result = self._live.pop(key), {**values, TIME: epoch}
        self._scheduler.on_trial_complete(None, trial, result)
        self._searcher.on_trial_complete(trial.trial_id, result=result)


def random_asha(table: Table, seed: int) -> TuneStrategy:
    """Draw points by chance; asynchronous successive halving (arXiv 1810.05934) on accuracy."""
    return TuneStrategy(table, random_points(table, seed), _asha(table))


def tpe_asha(table: Table, seed: int) -> TuneStrategy:
    """Let TPE look for accuracy alone, and stop by accuracy."""
    return TuneStrategy(table, _tpe(table, "accuracy", "max", seed), _asha(table))


def tpe_pareto_asha(table: Table, seed: int) -> TuneStrategy:
    """Let TPE look for all objectives, and stop by accuracy, since a scheduler of Tune takes one metric."""
    return TuneStrategy(table, _tpe(table, *_objectives(table), seed), _asha(table))


def tpe_pareto(table: Table, seed: int) -> TuneStrategy:
    """Let TPE look for all objectives, and train every trial to its end."""
    return TuneStrategy(table, _tpe(table, *_objectives(table), seed), FIFOScheduler())


def nsga2(population: int) -> Callable[[Table, int], TuneStrategy]:
    """Return the peer that breeds points by NSGA-II (IEEE TEC 2002) and trains every trial to its end.

    It crosses only parameters that every point has and draws the others by chance, so it is given all of them
    at once, as a dictionary, with which it was the faster of the two on spaces like those of the tables.

    Args:
        population: how many parents a generation has; Optuna's default is 50.
    """

    def build(table: Table, seed: int) -> TuneStrategy:
        sampler = NSGAIISampler(population_size=population, seed=seed)
        searcher = _searcher(_flat(table), *_objectives(table), sampler=sampler)
        return TuneStrategy(table, searcher, FIFOScheduler())

    return build


def random_points(table: Table, seed: int) -> OptunaSearch:
    """Return a searcher that draws by chance."""
    return _searcher(table.space.choose, "accuracy", "max", sampler=RandomSampler(seed=seed))


def _tpe(table: Table, metric: str | list[str], mode: str | list[str], seed: int) -> OptunaSearch:
    """Return Tune's default, TPE as Optuna sets it up; a function is how `OptunaSearch` takes conditions."""
    return _searcher(table.space.choose, metric, mode, seed=seed)


def _searcher(space: Any, metric: str | list[str], mode: str | list[str], **drawn: Any) -> OptunaSearch:
    """Return a searcher that doesn't tell of each study that it makes; `drawn` is its sampler or seed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return OptunaSearch(space, metric, mode, **drawn)


def _objectives(table: Table) -> tuple[list[str], list[str]]:
    """Return all objectives of the table's space, and which way each is better in Tune's words."""
    return list(table.space.objectives), [MODES[way] for way in table.space.objectives.values()]


def _flat(table: Table) -> dict[str, CategoricalDistribution]:
    """Return the space without its conditions; what isn't active in a point has no effect."""
    listed = {name: parameter.values() for name, parameter in table.space.parameters.items()}
    return {name: CategoricalDistribution(values) for name, values in listed.items() if values is not None}


def _asha(table: Table) -> ASHAScheduler:
    return ASHAScheduler(
        time_attr=TIME,
        metric="accuracy",
        mode="max",
        max_t=table.max_epochs,
        grace_period=1,
        reduction_factor=REDUCTION,
    )
