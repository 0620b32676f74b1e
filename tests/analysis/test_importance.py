"""Importances: what decides all comes first, what decides nothing stays below chance, gaps are told."""

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hkbench.analysis.importance import importances
from hkbench.store.records import TrialRecord

SPACE = {
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "momentum": FloatDistribution(0.0, 1.0),
    "model": CategoricalDistribution(["a", "b", "c"]),
    "depth": IntDistribution(1, 9),
}
MAXIMIZE = {"accuracy": "maximize"}


def trial(number, params, values, state="COMPLETE", confirms=None):
    return TrialRecord(
        number=number, state=state, params=params, confirms=confirms, model="m", image_size=32, loss="hard",
        weight_hard=1.0, weight_soft=0.0, epochs=1, values=values, metrics={},
    )  # fmt: skip


def point(rng):
    return {
        "rate": float(10 ** rng.uniform(-4, 0)),
        "momentum": float(rng.random()),
        "model": str(rng.choice(["a", "b", "c"])),
        "depth": int(rng.integers(1, 10)),
    }


def trials_of(accuracy, count=60, seed=0):
    rng = np.random.default_rng(seed)
    points = [point(rng) for _ in range(count)]
    return [trial(i, params, {"accuracy": float(accuracy(params))}) for i, params in enumerate(points)]


def by_name(rows):
    return {row.parameter: row for row in rows}


def test_what_decides_everything_comes_first_and_the_rest_far_behind():
    trials = trials_of(lambda params: -((np.log10(params["rate"]) + 2) ** 2))
    rows = importances(trials, MAXIMIZE, SPACE, resamples=60)
    assert rows[0].parameter == "rate"
    assert rows[0].value > rows[0].chance
    assert rows[0].value > 3 * rows[1].value
    assert rows[0].low <= rows[0].value <= rows[0].high
    assert {row.trials for row in rows} == {60}


def test_the_share_is_optunas_variance_over_that_of_being_among_the_best():
    trials = trials_of(lambda params: params["momentum"] + 0.1 * params["depth"])
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        optuna.trial.create_trial(params=each.params, distributions=SPACE, value=each.values["accuracy"])
        for each in trials
    )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.1)
    explained = evaluator.evaluate(study)
    found = by_name(importances(trials, MAXIMIZE, SPACE, resamples=1))
    for name, variance in explained.items():
        assert found[name].value == pytest.approx(variance / (0.1 * 0.9))


def test_each_objective_has_its_own_and_what_is_minimised_is():
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        params = point(rng)
        nbytes = 1000.0 if params["model"] == "b" else 2000.0 + params["depth"]
        rows.append(trial(number, params, {"accuracy": -abs(params["momentum"] - 0.2), "bytes": nbytes}))
    found = importances(rows, {"accuracy": "maximize", "bytes": "minimize"}, SPACE, resamples=20)
    first = {}
    for row in found:
        first.setdefault(row.objective, row.parameter)
    assert first == {"accuracy": "momentum", "bytes": "model"}


def test_what_only_some_trials_have_is_told_from_those_and_counted():
    trials = []
    rng = np.random.default_rng(1)
    for number in range(80):
        params = point(rng)
        if params["model"] == "c":
            del params["momentum"]
        accuracy = -abs(params["momentum"] - 0.5) if "momentum" in params else -0.5
        trials.append(trial(number, params, {"accuracy": accuracy}))
    row = by_name(importances(trials, MAXIMIZE, SPACE, resamples=40))["momentum"]
    assert row.trials == sum("momentum" in each.params for each in trials)
    assert row.value > row.chance


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda params: params | {"depth": 4}, "all 40 trials had the same value, 4"),
        (lambda params: {k: v for k, v in params.items() if k != "depth"}, "0 trials had a value for it"),
    ],
)
def test_a_parameter_without_spread_has_no_importance_but_a_reason(change, reason):
    trials = [
        each.model_copy(update={"params": change(each.params)})
        for each in trials_of(lambda params: params["momentum"], count=40)
    ]
    row = by_name(importances(trials, MAXIMIZE, SPACE, resamples=10))["depth"]
    assert (row.value, row.low, row.high, row.chance) == (None, None, None, None)
    assert row.reason.startswith(reason)


def test_too_few_trials_or_equal_ones_are_told_as_such():
    few = importances(trials_of(lambda params: params["momentum"], count=19), MAXIMIZE, SPACE)
    assert {row.reason for row in few} == {"19 trials ran to their end with accuracy; it needs 20"}
    equal = importances(trials_of(lambda _: 0.5), MAXIMIZE, SPACE)
    assert {row.value for row in equal} == {None}
    assert "the same accuracy" in equal[0].reason


def test_stopped_trials_confirmations_and_those_of_a_wider_space_do_not_count():
    good = trials_of(lambda params: params["momentum"], count=30)
    misleading = [
        trial(100, good[0].params, {"accuracy": 9.0}, state="PRUNED"),
        trial(101, good[0].params, {"accuracy": 9.0}, confirms=0),
        trial(102, good[0].params | {"momentum": 5.0}, {"accuracy": 9.0}),
        trial(103, good[0].params | {"model": "d"}, {"accuracy": 9.0}),
        trial(104, good[0].params, {"accuracy": None}),
    ]
    assert importances(good + misleading, MAXIMIZE, SPACE, resamples=5) == importances(
        good, MAXIMIZE, SPACE, resamples=5
    )


def test_intervals_hold_the_value_that_as_many_trials_give_on_average():
    def accuracy(rng):
        return lambda params: -abs(params["momentum"] - 0.3) + 0.1 * rng.standard_normal()

    space = {"momentum": SPACE["momentum"]}
    rng = np.random.default_rng(0)

    def alone(seed):
        drawn = trials_of(accuracy(rng), count=40, seed=seed)
        return [each.model_copy(update={"params": {"momentum": each.params["momentum"]}}) for each in drawn]

    mean = np.mean([importances(alone(seed), MAXIMIZE, space, resamples=1)[0].value for seed in range(60)])
    rows = [importances(alone(1000 + seed), MAXIMIZE, space, resamples=40)[0] for seed in range(30)]
    assert sum(row.low <= mean <= row.high for row in rows) >= 26


def test_a_parameter_without_bearing_stays_below_chance_nineteen_times_in_twenty():
    space = {"momentum": SPACE["momentum"]}
    rng = np.random.default_rng(0)
    above = 0
    for seed in range(40):
        drawn = trials_of(lambda _: rng.standard_normal(), count=30, seed=seed)
        trials = [each.model_copy(update={"params": {"momentum": each.params["momentum"]}}) for each in drawn]
        row = importances(trials, MAXIMIZE, space, resamples=40)[0]
        above += row.value > row.chance
    assert above <= 5  # of 40: 2 expected, more than 5 once in 70
