"""Confirmations: which trials are trained again and from which seeds, and what may be said of them after."""

import numpy as np
import pytest

from hkbench.analysis.trials import losses_of
from hkbench.runs.confirm import (
    COLUMNS,
    best_of_frontier,
    confirmations,
    confirmed,
    confirmed_rows,
    winner,
)
from hkbench.store.records import TrialRecord

TWO = {"accuracy": "maximize", "artifact_bytes": "minimize"}
ONE = {"accuracy": "maximize"}


def trial(number, accuracy, size=1000.0, *, confirms=None, seed=0, state="COMPLETE", reason=None, broken=0.0):
    known = accuracy is not None
    return TrialRecord(
        number=number, state=state, reason=reason, params={"width": number if confirms is None else confirms},
        settings={"seed": seed}, confirms=confirms, model="net", image_size=32, loss="hard", weight_hard=1.0,
        weight_soft=0.0, epochs=2, constraints={"artifact_bytes": broken},
        values={"accuracy": accuracy, "artifact_bytes": size},
        metrics={"accuracy": accuracy} if known else {},
    )  # fmt: skip


FRONTIER = [
    trial(0, 0.90, 1000.0),
    trial(1, 0.89, 980.0),  # beside 0: adds next to nothing
    trial(2, 0.70, 400.0),  # adds (1.1 − 0.67) × (1 − 0.33) to 0, in shares of the range
    trial(3, 0.60, 100.0),  # adds 0.1 × 1
    trial(4, 0.55, 500.0),  # dominated
    trial(5, 0.99, 10.0, broken=1.0),
    trial(6, 0.98, 10.0, state="PRUNED"),
]


def test_the_most_accurate_comes_first_and_then_those_that_spread_over_the_frontier():
    assert best_of_frontier(FRONTIER, TWO, 1) == [0]
    assert best_of_frontier(FRONTIER, TWO, 3) == [0, 2, 3]
    assert best_of_frontier(FRONTIER, TWO, 4) == [0, 2, 3, 1]


def test_of_any_set_as_large_the_chosen_has_nearly_the_largest_volume():
    from itertools import combinations

    import moocore

    rng = np.random.default_rng(0)
    angle = np.sort(rng.uniform(0, np.pi / 2, 12))
    trials = [trial(n, float(np.sin(a)), float(1 - np.cos(a))) for n, a in enumerate(angle)]
    chosen = best_of_frontier(trials, TWO, 4)

    def volume(numbers):
        points = np.array([losses_of(trials[number].values, TWO) for number in numbers])
        low, high = np.array([-1.0, 0.0]), np.array([0.0, 1.0])
        return moocore.hypervolume((points - low) / (high - low), ref=[1.1, 1.1])

    best = max(volume({chosen[0], *rest}) for rest in combinations(range(12), 3) if chosen[0] not in rest)
    assert volume(chosen) >= 0.95 * best


def test_behind_a_frontier_that_is_too_small_the_next_ranks_follow():
    assert best_of_frontier(FRONTIER, ONE, 3) == [0, 1, 2]
    assert best_of_frontier(FRONTIER, TWO, 9) == [0, 2, 3, 1, 4]


def test_a_search_without_a_feasible_trial_has_none_to_confirm():
    assert best_of_frontier(FRONTIER[5:], TWO, 3) == []
    assert confirmations([], TWO, 3) == []
    assert best_of_frontier([trial(0, None), trial(1, 0.5)], TWO, 3) == [1]


def test_every_chosen_trial_gets_the_same_seeds_that_the_search_has_not_used():
    trials = [*FRONTIER[:2], FRONTIER[2].model_copy(update={"settings": {"seed": 1002}})]
    wanted = confirmations(trials, TWO, 2, seeds=3)
    assert [(each.confirms, each.seed) for each in wanted] == [
        (number, seed) for seed in (1001, 1003, 1004) for number in (0, 2)
    ]
    assert wanted[0].params == {"width": 0}
    assert wanted[0].name == "trial 0 again, seed 1001"


def test_what_has_ended_is_not_trained_again_and_changes_no_choice():
    done = [
        trial(7, 0.999, 1.0, confirms=0, seed=1001),
        trial(8, None, confirms=2, seed=1001, state="FAIL", reason="DivergedError: NaN"),
    ]
    wanted = confirmations([*FRONTIER, *done], TWO, 2, seeds=2)
    assert [(each.confirms, each.seed) for each in wanted] == [(0, 1002), (2, 1002)]
    assert best_of_frontier([*FRONTIER, *done], TWO, 4) == best_of_frontier(FRONTIER, TWO, 4)


def test_a_lucky_seed_is_not_the_winner_and_not_in_its_own_mean():
    again = [
        *(trial(10 + n, value, confirms=0, seed=1001 + n) for n, value in enumerate((0.84, 0.85, 0.86))),
        *(trial(20 + n, value, confirms=1, seed=1001 + n) for n, value in enumerate((0.88, 0.89, 0.87))),
    ]
    found = confirmed([*FRONTIER, *again])
    assert [row.trial for row in found] == [1, 0]
    assert winner(found) == 1
    lucky = found[1]
    assert (lucky.found, lucky.mean, lucky.seeds) == (0.90, pytest.approx(0.85), [1001, 1002, 1003])
    # t of 2 degrees of freedom is 4.303; the spread is 0.01, over √3
    assert (lucky.low, lucky.high) == (
        pytest.approx(0.85 - 0.02484, abs=1e-4),
        pytest.approx(0.85 + 0.02484, abs=1e-4),
    )
    assert lucky.spread == pytest.approx(0.01)


def test_intervals_over_seeds_hold_the_mean_in_95_of_100():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        values = 0.8 + 0.02 * rng.standard_normal(3)
        again = [trial(n + 1, float(v), confirms=0, seed=1001 + n) for n, v in enumerate(values)]
        (row,) = confirmed([trial(0, 0.9), *again])
        held += row.low <= 0.8 <= row.high
    assert 930 <= held <= 970


def test_one_seed_has_no_interval_and_none_has_no_mean_and_both_say_why():
    again = [
        trial(7, 0.8, confirms=0, seed=1001),
        trial(8, None, confirms=0, seed=1002, state="FAIL", reason="out of memory"),
        trial(9, None, confirms=1, seed=1001, state="FAIL", reason="out of memory"),
    ]
    one, none = confirmed([*FRONTIER, *again])
    assert (one.trial, one.mean, one.low, one.spread, one.failed) == (0, 0.8, None, None, 1)
    assert one.reason == "one seed has no spread"
    assert (none.trial, none.mean, none.reason) == (1, None, "none ran to its end: out of memory")
    assert winner([none]) is None
    assert winner([]) is None


def test_rows_are_ready_for_a_table():
    again = [trial(7, 0.80, confirms=0, seed=1001), trial(8, 0.82, confirms=0, seed=1002)]
    failed = trial(9, None, confirms=1, seed=1001, state="FAIL", reason="NaN")
    rows = confirmed_rows(confirmed([*FRONTIER, *again, failed]))
    assert rows == [
        ("trial-000", "net 32px", "2", "81.0%", "68.3% to 93.7%", "1.4%", "90.0%"),
        ("trial-001", "net 32px", "0 (1 failed)", "–", "–", "–", "89.0%"),
    ]
    assert {len(row) for row in rows} == {len(COLUMNS)}
