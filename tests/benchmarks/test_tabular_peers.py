import math

import numpy as np
import optuna
import pytest

from benchmarks.tabular.hypervolume import GrowingHypervolume, hypervolume
from benchmarks.tabular.peers import PEERS
from benchmarks.tabular.peers.moasha import (
    PortedRule,
    SyneTuneRule,
    epsilon_net,
    place_as_in_paper,
    place_as_released,
    syne_tune_is_installed,
)
from benchmarks.tabular.peers.tune import random_asha
from benchmarks.tabular.simulator import replay
from benchmarks.tabular.table import Row, Scale, Table
from hkbench.spaces.space import Space

EPOCHS = 9
COSTS = {"artifact_bytes": 1e6, "latency_ms": 2.0}


def small_table():
    """Return 60 points with conditions; width costs bytes, pictures cost time, both bring accuracy."""
    space = Space.model_validate(
        {
            "name": "small",
            "about": "for tests",
            "parameters": {
                "width": {"type": "categorical", "choices": [0.5, 1.0, 1.5, 2.0, 2.5]},
                "image_size": {"type": "categorical", "choices": [32, 48, 64]},
                "loss": {"type": "categorical", "choices": ["kd", "hard"]},
                "temperature": {"type": "categorical", "choices": [2, 4, 8], "when": {"loss": "kd"}},
            },
            "objectives": {"accuracy": "maximize", "artifact_bytes": "minimize", "latency_ms": "minimize"},
            "schedule": {"max_epochs": EPOCHS},
        }
    )
    rows = [_row(params) for params in space.points()]
    scales = {
        "accuracy": Scale(low=-0.9, high=0.0, log=False),
        "artifact_bytes": Scale(low=1e5, high=5e5, log=True),
        "latency_ms": Scale(low=1.0, high=3.0, log=False),
    }
    return Table(space, rows, scales, 1.1)


def _row(params):
    at_end = 0.2 + 0.1 * params["width"] + params["image_size"] / 256 + 0.02 * params.get("temperature", 0)
    return Row(
        params=params,
        accuracy=tuple(round(at_end * (1 - 0.5**epoch), 5) for epoch in range(1, EPOCHS + 1)),
        seconds=(params["width"],) * EPOCHS,
        costs={"artifact_bytes": 2e5 * params["width"], "latency_ms": params["image_size"] / 32},
    )


class Overheard:
    """A strategy, and what it asked for."""

    def __init__(self, strategy):
        self.strategy = strategy
        self.points, self.ends = [], []

    def suggest(self):
        asked = self.strategy.suggest()
        self.points.append(asked.params)
        return asked

    def on_epoch(self, key, epoch, values):
        return self.strategy.on_epoch(key, epoch, values)

    def on_end(self, key, epoch, values, complete):
        self.ends.append((epoch, complete))
        self.strategy.on_end(key, epoch, values, complete)


def run(name, seed=0, asks=60):
    overheard = Overheard(PEERS[name](small_table(), seed))
    return replay(small_table(), overheard, concurrency=4, most_asks=asks), overheard


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_asks_for_points_of_the_table_until_the_end_and_is_repeatable(name):
    done, overheard = run(name)
    assert done.asks == len(overheard.ends) == 60  # what isn't in the table raises KeyError
    assert overheard.points == run(name)[1].points
    assert overheard.points != run(name, seed=1)[1].points


def test_the_peers_say_nothing(capfd):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    for name in PEERS:
        run(name, asks=6)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", PEERS)
def test_who_stops_early_and_who_does_not(name):
    _, overheard = run(name)
    complete = [complete for _, complete in overheard.ends]
    if name in ("tpe_pareto", "nsga2_of_10", "nsga2_of_20", "nsga2_of_50"):
        assert all(complete)
    else:
        assert 0 < sum(complete) < len(complete)
        assert {epoch for epoch, whole in overheard.ends if not whole} <= {1, 3}  # the rungs


def test_asha_lets_a_better_trial_go_on_and_ends_a_worse_one():
    strategy = random_asha(small_table(), 0)
    first, better, worse = (strategy.suggest().key for _ in range(3))
    assert strategy.on_epoch(first, 1, {"accuracy": 0.5, **COSTS})
    assert strategy.on_epoch(better, 1, {"accuracy": 0.6, **COSTS})
    assert not strategy.on_epoch(worse, 1, {"accuracy": 0.4, **COSTS})


def test_tpe_hears_how_its_trials_ended():
    last = {}
    for name in ("tpe_asha", "random_asha"):
        _, overheard = run(name, asks=120)
        last[name] = np.mean([_row(params).accuracy[-1] for params in overheard.points[60:]])
    assert last["tpe_asha"] > last["random_asha"] + 0.05


@pytest.mark.parametrize("name", ["tpe_pareto", "nsga2_of_10"])
def test_a_search_for_all_objectives_hears_of_all(name):
    """Dear points that are no more accurate than cheap ones are asked for less once they are known."""
    table = small_table()
    flat = [
        Row(params=row.params, accuracy=(0.5,) * 9, seconds=row.seconds, costs=row.costs)
        for row in table.rows
    ]
    table = Table(table.space, flat, table.scales, table.reference)
    overheard = Overheard(PEERS[name](table, 0))
    replay(table, overheard, concurrency=4, most_asks=160)
    first, last = (
        [params["width"] for params in part] for part in (overheard.points[:10], overheard.points[-60:])
    )
    assert np.mean(last) < np.mean(first) - 0.3


def test_an_epsilon_net_starts_at_the_best_of_the_first_objective_and_spreads():
    points = np.array([[3.0, 0.0], [0.0, 3.0], [0.1, 2.9], [1.5, 1.5]])
    assert epsilon_net(points) == [1, 0, 3, 2]


def test_the_rule_of_the_paper_ranks_by_fronts_and_then_by_the_net():
    front = np.array([[0.0, 3.0], [1.0, 2.0], [3.0, 0.0]])
    assert place_as_in_paper(np.vstack([front, [4.0, 4.0]])) == 3 / 4
    assert place_as_in_paper(np.vstack([front, [-1.0, 9.0]])) == 0.0  # on the front, and first in accuracy
    assert place_as_in_paper(np.vstack([front, [0.1, 2.9]])) == 3 / 4  # on the front, but beside another


def test_the_released_rule_looks_at_which_trial_is_the_worst():
    worst_first = np.array([[9.0, 9.0], [1.0, 1.0], [2.0, 2.0], [8.0, 8.0]])
    assert place_as_released(worst_first) == 0.0  # so that a dominated newcomer goes on
    assert place_as_in_paper(worst_first) == 2 / 4


def test_a_ported_rung_keeps_a_third():
    rule = PortedRule(EPOCHS, place_as_in_paper)
    assert rule.goes_on(1, 1, np.array([0.5, 0.5]))  # the first to come
    assert not rule.goes_on(2, 1, np.array([0.6, 0.6]))
    assert rule.goes_on(3, 1, np.array([0.4, 0.4]))
    assert rule.goes_on(3, 2, np.array([0.9, 0.9]))  # between rungs
    assert rule.goes_on(3, 3, np.array([0.9, 0.9]))  # the first there


@pytest.mark.skipif(not syne_tune_is_installed(), reason="syne-tune is not in the lock file: see moasha.py")
@pytest.mark.parametrize("seed", range(5))
def test_the_port_decides_as_syne_tune_does(seed):
    rng = np.random.default_rng(seed)
    ported, real = PortedRule(27, place_as_released), SyneTuneRule(27, 3)
    levels = [7, 1000][seed % 2]  # few levels make ties and equal points
    live = {key: rng.integers(levels, size=3) / levels for key in range(120)}
    decided = []
    for epoch in range(1, 27):
        for key in list(live):
            losses = live[key] - 0.01 * rng.integers(5) * epoch
            goes_on = ported.goes_on(key, epoch, losses)
            assert real.goes_on(key, epoch, losses) == goes_on
            decided.append(goes_on)
            if not goes_on:
                del live[key]
    assert 0 < sum(decided) < len(decided)


def test_points_hold_what_is_active_and_no_more():
    seen = run("random_asha")[1].points + run("nsga2_of_10")[1].points
    assert all(("temperature" in params) == (params["loss"] == "kd") for params in seen)


def test_the_hypervolume_is_a_share_of_the_box():
    assert hypervolume(np.array([[0.55, 0.55, 0.55]]), reference=1.1) == pytest.approx(1 / 8)
    assert hypervolume(np.zeros((1, 3)), reference=1.1) == pytest.approx(1.0)
    assert hypervolume(np.full((1, 3), -5.0), reference=1.1) == pytest.approx(1.0)
    assert hypervolume(np.array([[0.0, 0.0, 1.2]]), reference=1.1) == 0.0
    assert hypervolume(np.array([[math.nan, 0.0, 0.0]]), reference=1.1) == 0.0
    assert hypervolume(np.empty((0, 3)), reference=1.1) == 0.0
    both = np.array([[0.0, 0.5], [0.5, 0.0]])
    assert hypervolume(both, reference=1.0) == pytest.approx(0.75)


def test_a_growing_hypervolume_is_that_of_all_points_so_far():
    points = np.round(np.random.default_rng(0).random((60, 3)) * 1.3, 1)
    points[7, 0] = math.nan
    growing = GrowingHypervolume(1.1)
    assert growing.value == 0.0
    for number, losses in enumerate(points, start=1):
        assert growing.add(losses) == pytest.approx(hypervolume(points[:number], reference=1.1))
