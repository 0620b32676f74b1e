"""Rankings: what differs is said to differ, what doesn't is not."""

import numpy as np
import pytest
from scipy.stats import tukey_hsd

from hkbench.analysis.ranking import ranked_parameters, ranking
from hkbench.store.records import TrialRecord


def trial(number, params, accuracy, state="COMPLETE"):
    return TrialRecord(
        number=number, state=state, params=params, model="m", image_size=32, loss="hard", weight_hard=1.0,
        weight_soft=0.0, epochs=1, values={"accuracy": accuracy}, metrics={"accuracy": accuracy},
    )  # fmt: skip


def drawn(choices, generator, seeds=3):
    """Trials of choices between which there is no difference."""
    values = 0.5 + 0.01 * generator.standard_normal((choices, seeds))
    return [
        trial(choice * seeds + seed, {"optimizer": str(choice), "seed": seed}, value)
        for (choice, seed), value in np.ndenumerate(values)
    ]


def trials_of(means, seeds=3, noise=0.002):
    rng = np.random.default_rng(0)
    rows = [
        (name, seed, mean + noise * rng.standard_normal())
        for name, mean in means.items()
        for seed in range(seeds)
    ]
    return [trial(i, {"optimizer": name, "seed": seed}, value) for i, (name, seed, value) in enumerate(rows)]


def test_a_large_difference_is_shown_and_a_small_one_is_not():
    rows = ranking(trials_of({"sgd": 0.80, "adamw": 0.801, "lion": 0.70}), "optimizer").rows
    verdicts = {row.choice: row.verdict for row in rows}
    assert verdicts["lion"] == "worse"
    assert sorted([verdicts["sgd"], verdicts["adamw"]]) == ["first", "no difference shown"]
    assert rows[-1].choice == "lion"
    assert rows[-1].difference.estimate == pytest.approx(-0.1, abs=0.01)
    assert all(row.accuracy.low < row.accuracy.estimate < row.accuracy.high for row in rows)


def test_of_a_hundred_rankings_of_equal_choices_five_call_one_of_them_worse():
    generator = np.random.default_rng(0)
    shown = sum(
        any(row.verdict == "worse" for row in ranking(drawn(12, generator), "optimizer").rows)
        for _ in range(600)
    )
    assert 0.03 <= shown / 600 <= 0.08


def test_the_differences_are_those_of_scipys_tukey_for_unequal_numbers_of_seeds_too():
    trials = drawn(4, np.random.default_rng(1))[:-1]
    samples = {
        str(k): [t.metrics["accuracy"] for t in trials if t.params["optimizer"] == str(k)] for k in range(4)
    }
    rows = ranking(trials, "optimizer").rows
    expected = tukey_hsd(*samples.values()).confidence_interval(0.95)
    first = int(rows[0].choice)
    assert sorted(row.seeds for row in rows) == [2, 3, 3, 3]
    for row in rows[1:]:
        own = int(row.choice)
        assert row.difference.low == pytest.approx(expected.low[own, first], abs=1e-6)
        assert row.difference.high == pytest.approx(expected.high[own, first], abs=1e-6)


def test_one_seed_or_one_choice_is_no_ranking():
    assert ranking(trials_of({"sgd": 0.8, "adamw": 0.7}, seeds=1), "optimizer") is None
    assert ranking(trials_of({"sgd": 0.8}), "optimizer") is None


def test_failed_trials_do_not_count():
    rows = trials_of({"sgd": 0.8, "adamw": 0.7})
    rows.append(trial(99, {"optimizer": "adamw", "seed": 7}, 0.99, state="PRUNED"))
    assert [row.choice for row in ranking(rows, "optimizer").rows] == ["sgd", "adamw"]


def test_choices_that_were_cut_off_before_their_second_seed_are_named():
    trials = trials_of({"sgd": 0.8, "adamw": 0.7})
    trials += [
        trial(90, {"optimizer": "lion", "seed": 0}, 0.9),
        trial(91, {"optimizer": "lion", "seed": 1}, 0.9, state="FAIL"),
        trial(92, {"optimizer": "muon", "seed": 0}, 0.9, state="FAIL"),
    ]
    found = ranking(trials, "optimizer")
    assert [row.choice for row in found.rows] == ["sgd", "adamw"]
    assert found.left_out == ("lion", "muon")


def test_of_several_settings_of_a_choice_the_one_with_most_seeds_counts():
    rows = trials_of({"sgd": 0.8, "adamw": 0.7})
    rows.append(trial(99, {"optimizer": "adamw", "learning_rate": 0.1, "seed": 0}, 0.99))
    assert ranking(rows, "optimizer").rows[0].choice == "sgd"


def test_of_settings_with_as_many_seeds_the_first_counts_and_not_the_best():
    later = [trial(90 + seed, {"optimizer": "adamw", "rate": 0.1, "seed": seed}, 0.99) for seed in range(3)]
    found = ranking([*later, *trials_of({"sgd": 0.8, "adamw": 0.7})], "optimizer")
    assert [row.choice for row in found.rows] == ["sgd", "adamw"]
    assert found.rows[1].accuracy.estimate == pytest.approx(0.7, abs=0.01)


def test_equal_results_for_every_seed_need_no_spread():
    rows = [trial(i, {"optimizer": "ab"[i // 2], "seed": i % 2}, [0.5, 0.4][i // 2]) for i in range(4)]
    assert [row.verdict for row in ranking(rows, "optimizer").rows] == ["first", "worse"]


def tried(values, seeds=2):
    """Trials of each value of `p`, each worse than the one before, with several seeds."""
    points = [(value, seed) for value in values for seed in range(seeds)]
    return [
        trial(i, {"p": value, "seed": seed}, 0.9 - 0.01 * i + 0.001 * seed)
        for i, (value, seed) in enumerate(points)
    ]


@pytest.mark.parametrize(
    "values", [["sgd", "adamw"], [True, False], [2, 3, 5], [0.1, 0.5], ["all", 3], range(12)]
)
def test_parameters_with_choices_are_ranked(values):
    (found,) = ranked_parameters(tried(values))
    assert found.parameter == "p"
    assert [row.choice for row in found.rows] == [str(value) for value in values]


def test_a_range_that_was_sampled_is_not_ranked():
    assert ranked_parameters(tried(range(13))) == ()
    seldom = [trial(50 + i, {"p": 0.01 * i, "seed": 0}, 0.5) for i in range(3)]
    assert ranked_parameters(tried([1.0, 2.0]) + seldom) == ()
    (found,) = ranked_parameters(tried([1.0, 2.0]) + seldom[:1])
    assert found.left_out == ("0.0",)


def test_without_seeds_nothing_is_ranked():
    assert ranked_parameters([trial(i, {"optimizer": "ab"[i % 2]}, 0.5) for i in range(6)]) == ()
