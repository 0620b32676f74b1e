"""MOASHA, multi-objective successive halving: syne-tune's where it is installed, else a port of its rule.

The rule is from arXiv 2106.12639: at each rung a trial is ranked among all that came there, by non-dominated
sort and within a front by an ε-net, and goes on if it is in the best 1/reduction.

syne-tune 0.16.0 ranks otherwise than it means to, in two places. `compute_epsilon_net` returns places and
`nondominated_sort` takes them for an order; `Bracket.on_result` takes the sorted list of indices for a list
of places, so that whether a trial goes on depends on which trial is the worst of the rung. `moasha` is the
rule as released, `moasha_as_in_paper` as it is described.

syne-tune isn't in the lock file, since it brings xgboost with a GPU library of 300 MB, which MOASHA doesn't
need: `pip install --no-deps syne-tune==0.16.0 dill` is enough.
"""

import importlib.util
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import moocore
import numpy as np
from numpy.typing import NDArray

from benchmarks.tabular.peers.tune import REDUCTION, TIME, random_points
from benchmarks.tabular.simulator import Asked
from benchmarks.tabular.table import Table
from hkbench.analysis.trials import losses_of

Losses = NDArray[np.float64]
UNITS = {"accuracy": 1.0, "artifact_bytes": 1e-6, "latency_ms": 1.0}
"""MOASHA doesn't scale what it measures distances in, so bytes are told as megabytes."""


class Rule(Protocol):
    """Who goes on."""

    def goes_on(self, key: int, epoch: int, losses: Losses) -> bool:
        """Take a trial's losses, float (objectives,), after an epoch that isn't its last."""


class MoashaStrategy:
    """Points by chance, as MOASHA draws them, and a rule that says who goes on."""

    def __init__(self, table: Table, seed: int, rule: Rule) -> None:
        self._points = random_points(table, seed)
        self._objectives = table.space.objectives
        self._rule = rule
        self._asked = 0

    def suggest(self) -> Asked | None:
        """Return a point drawn by chance."""
        self._asked += 1
        return Asked(key=self._asked, params=self._points.suggest(str(self._asked)))

    def on_epoch(self, key: int, epoch: int, values: dict[str, float]) -> bool:
        """Ask the rule."""
        told = {name: value * UNITS.get(name, 1.0) for name, value in values.items()}
        return self._rule.goes_on(key, epoch, np.array(losses_of(told, self._objectives)))

    def on_end(self, key: int, epoch: int, values: dict[str, float], complete: bool) -> None:
        """Do nothing: syne-tune stops a trial at its last epoch without recording it."""


class PortedRule:
    """The rungs of syne-tune's `Bracket`, with the default of one bracket and a grace of one epoch."""

    def __init__(self, max_epochs: int, place: Callable[[Losses], float]) -> None:
        count = int(np.log(max_epochs) / np.log(REDUCTION) + 1)
        self._rungs: list[tuple[int, dict[int, Losses]]] = [
            (REDUCTION**power, {}) for power in reversed(range(count))
        ]
        self._place = place

    def goes_on(self, key: int, epoch: int, losses: Losses) -> bool:
        """Record a trial at the highest rung that it has come to, and rank it there."""
        for milestone, recorded in self._rungs:
            if epoch < milestone or key in recorded:
                continue
            recorded[key] = losses
            return len(recorded) == 1 or self._place(np.stack(list(recorded.values()))) <= 1 / REDUCTION
        return True


def place_as_in_paper(losses: Losses) -> float:
    """Return the place of the last row, in [0, 1): by its front, within that by the ε-net."""
    fronts = moocore.pareto_rank(losses)
    own = np.flatnonzero(fronts == fronts[-1])  # the last row is the last of its front
    before = np.count_nonzero(fronts < fronts[-1])
    return float((before + epsilon_net(losses[own]).index(len(own) - 1)) / len(losses))


def place_as_released(losses: Losses) -> float:
    """Return what syne-tune 0.16.0 takes for the place of the last row: the index of the row sorted last."""
    fronts = moocore.pareto_rank(losses)
    worst = np.flatnonzero(fronts == fronts.max())
    places = np.argsort(epsilon_net(losses[worst]))  # taken for an order there
    return float(worst[places[-1]] / len(losses))


def epsilon_net(losses: Losses) -> list[int]:
    """Return an order in which each row is the farthest from those before; the first objective's best starts.

    Clarkson, "Nearest-neighbor searching and metric space dimensions" (2005), as MOASHA uses it.
    """
    order = [int(losses[:, 0].argmin())]
    distances = np.linalg.norm(losses - losses[order[0]], axis=1)
    while len(order) < len(losses):
        distances[order[-1]] = -1.0  # chosen
        order.append(int(distances.argmax()))
        distances = np.minimum(distances, np.linalg.norm(losses - losses[order[-1]], axis=1))
    return order


class SyneTuneRule:
    """syne-tune's own MOASHA, called as its `Tuner` calls it; every loss is minimised."""

    def __init__(self, max_epochs: int, objectives: int) -> None:
        from syne_tune.backend.trial_status import Trial  # not in the lock file
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

        self._names = [f"loss_{number}" for number in range(objectives)]
        self._scheduler = MOASHA(
            config_space={},
            metrics=self._names,
            time_attr=TIME,
            max_t=max_epochs,
            grace_period=1,
            reduction_factor=REDUCTION,
        )
        self._trial = Trial
        self._known: dict[int, Any] = {}

    def goes_on(self, key: int, epoch: int, losses: Losses) -> bool:
        """Ask the scheduler."""
        if key not in self._known:
            self._known[key] = self._trial(trial_id=key, config={}, creation_time=datetime.now(UTC))
            self._scheduler.on_trial_add(self._known[key])
        result = {TIME: epoch, **dict(zip(self._names, losses.tolist(), strict=True))}
        if self._scheduler.on_trial_result(self._known[key], result) == "CONTINUE":
            return True
        self._scheduler.on_trial_remove(self._known[key])
        return False


def syne_tune_is_installed() -> bool:
    """Whether `moasha` is syne-tune's own code here."""
    return importlib.util.find_spec("syne_tune") is not None


def moasha(table: Table, seed: int) -> MoashaStrategy:
    """Return MOASHA as released: syne-tune's code, or the port where that isn't installed."""
    if syne_tune_is_installed():
        return MoashaStrategy(table, seed, SyneTuneRule(table.max_epochs, len(table.space.objectives)))
    return MoashaStrategy(table, seed, PortedRule(table.max_epochs, place_as_released))


def moasha_as_in_paper(table: Table, seed: int) -> MoashaStrategy:
    """Return MOASHA as described, with the two slips of the release put right."""
    return MoashaStrategy(table, seed, PortedRule(table.max_epochs, place_as_in_paper))
