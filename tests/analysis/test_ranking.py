"""Rankings: what differs is said to differ, what doesn't is not."""

import numpy as np
import pytest

from hkbench.analysis.ranking import ranked_parameters, ranking
from hkbench.store.records import TrialRecord


def trial(number, params, accuracy, state="COMPLETE"):
    return TrialRecord(
        number=number, state=state, params=params, model="m", image_size=32, loss="hard", weight_hard=1.0,
        weight_soft=0.0, epochs=1, values={"accuracy": accuracy}, metrics={"accuracy": accuracy},
    )  # fmt: skip


def trials_of(means, seeds=3, noise=0.002):
    rng = np.random.default_rng(0)
    rows = [
        (name, seed, mean + noise * rng.standard_normal())
        for name, mean in means.items()
        for seed in range(seeds)
    ]
    return [trial(i, {"optimizer": name, "seed": seed}, value) for i, (name, seed, value) in enumerate(rows)]


def test_a_large_difference_is_shown_and_a_small_one_is_not():
    rows = ranking(trials_of({"sgd": 0.80, "adamw": 0.801, "lion": 0.70}), "optimizer")
    verdicts = {row.choice: row.verdict for row in rows}
    assert verdicts["lion"] == "worse"
    assert sorted([verdicts["sgd"], verdicts["adamw"]]) == ["first", "no difference shown"]
    assert rows[-1].choice == "lion"
    assert rows[-1].difference.estimate == pytest.approx(-0.1, abs=0.01)
    assert all(row.accuracy.low < row.accuracy.estimate < row.accuracy.high for row in rows)


def test_equal_choices_differ_in_few_of_many_tries():
    shown = 0
    for attempt in range(40):
        rng = np.random.default_rng(attempt)
        rows = [
            trial(i, {"optimizer": str(i // 3), "seed": i % 3}, 0.5 + 0.01 * rng.standard_normal())
            for i in range(18)
        ]
        shown += any(row.verdict == "worse" for row in ranking(rows, "optimizer"))
    assert shown <= 12, "the first is picked for its figures, so a little more than 5 % is expected"


def test_one_seed_or_one_choice_is_no_ranking():
    assert ranking(trials_of({"sgd": 0.8, "adamw": 0.7}, seeds=1), "optimizer") == []
    assert ranking(trials_of({"sgd": 0.8}), "optimizer") == []


def test_failed_trials_do_not_count():
    rows = trials_of({"sgd": 0.8, "adamw": 0.7})
    rows.append(trial(99, {"optimizer": "adamw", "seed": 7}, 0.99, state="PRUNED"))
    assert [row.choice for row in ranking(rows, "optimizer")] == ["sgd", "adamw"]


def test_of_several_settings_of_a_choice_the_one_with_most_seeds_counts():
    rows = trials_of({"sgd": 0.8, "adamw": 0.7})
    rows.append(trial(99, {"optimizer": "adamw", "learning_rate": 0.1, "seed": 0}, 0.99))
    assert ranking(rows, "optimizer")[0].choice == "sgd"


def test_equal_results_for_every_seed_need_no_spread():
    rows = [trial(i, {"optimizer": "ab"[i // 2], "seed": i % 2}, [0.5, 0.4][i // 2]) for i in range(4)]
    assert [row.verdict for row in ranking(rows, "optimizer")] == ["first", "worse"]


def test_parameters_with_seeds_are_found():
    assert list(ranked_parameters(trials_of({"sgd": 0.8, "adamw": 0.7}))) == ["optimizer"]
    assert ranked_parameters([trial(0, {"optimizer": "sgd"}, 0.5)]) == {}
