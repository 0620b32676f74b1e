"""The gain of distillation: found where it is, bounded where it isn't known, and never beyond the trials."""

import math

import numpy as np
import pytest

from hkbench.analysis.distillation_gain import distillation_gain, pairs
from hkbench.store.records import TrialRecord

NOISE = 0.006


def trial(number, accuracy, temperature=None, alpha=1.0, model="m", state="COMPLETE", **settings):
    taught = temperature is not None
    loss = "kd" if taught else "hard"
    return TrialRecord(
        number=number, state=state, params={}, model=model, image_size=32, loss=loss, epochs=2,
        settings={"learning_rate": 0.01, "seed": 0, "precision": "fp32", **settings,
                  "model": model, "loss": loss, "alpha": alpha, "temperature": temperature},
        weight_hard=alpha, weight_soft=(1 - alpha) * temperature**2 if taught else 0.0,
        temperature=temperature,
        values={"accuracy": accuracy}, metrics={"accuracy": accuracy},
    )  # fmt: skip


def bump(temperature, alpha):
    """A gain of up to 3 points, above 0 for T from about 1.8 to 4.4 where α is small."""
    return (
        0.05 * math.exp(-(((math.log(temperature) - math.log(2.83)) / 0.45) ** 2)) * (1 - 0.3 * alpha) - 0.02
    )


def drawn(gain, count, *, models=1, twins=1, seed=0, noise=NOISE):
    """Trials of T in 1 to 10 and α in 0 to 0.9; every model has an accuracy and twins of its own."""
    rng = np.random.default_rng(seed)
    base = {f"m{number}": 0.7 + 0.05 * number for number in range(models)}
    found = [
        trial(number, base[model] + noise * rng.standard_normal(), model=model)
        for number, model in enumerate(np.repeat(list(base), twins))
    ]
    for _ in range(count):
        temperature, alpha = float(np.exp(rng.uniform(0, math.log(10)))), float(rng.uniform(0, 0.9))
        model = f"m{rng.integers(models)}"
        accuracy = base[model] + gain(temperature, alpha) + noise * rng.standard_normal()
        found.append(trial(len(found), float(accuracy), temperature, alpha, model))
    return found


def test_the_range_in_which_distillation_gains_is_found():
    found = distillation_gain(drawn(bump, 60, models=3))
    low, high = found.temperature
    assert 1.5 < low < 2.4
    assert 3.3 < high < 4.8
    assert found.alpha[0] < 0.1
    assert (found.trials, found.exact, found.twins, found.unpaired) == (60, 60, 3, 0)
    assert found.reason is None
    best = max(found.cells, key=lambda cell: cell.estimate)
    assert best.temperature[0] < 3.2 < best.temperature[1] * 1.4
    assert all(cell.low <= cell.estimate <= cell.high for cell in found.cells)


def test_where_nothing_is_gained_the_range_is_empty_and_says_so():
    found = distillation_gain(drawn(lambda *_: 0.0, 30))
    assert (found.temperature, found.alpha) == (None, None)
    assert found.reason == "no cell's lower bound is above 0"
    assert found.cells


def test_with_few_trials_there_are_no_cells_but_a_reason():
    found = distillation_gain(drawn(bump, 7))
    assert (found.cells, found.temperature, found.alpha) == ([], None, None)
    assert found.reason == "7 trials with a teacher have a twin without one; it needs 8"


def test_intervals_hold_the_gain_and_hardly_any_cell_is_won_by_chance():
    held, won = [], []
    for seed in range(15):
        for cell in distillation_gain(drawn(bump, 24, models=2, seed=seed)).cells:
            true = bump(math.sqrt(math.prod(cell.temperature)), sum(cell.alpha) / 2)
            held.append(cell.low <= true <= cell.high)
            won.append(cell.low > 0 and true < 0)
    assert np.mean(held) > 0.9
    assert np.mean(won) < 0.02


def test_the_luck_of_a_single_twin_is_in_the_bounds():
    def width(twins):
        cells = distillation_gain(drawn(bump, 40, twins=twins)).cells
        return np.mean([cell.high - cell.low for cell in cells])

    assert width(1) > 1.3 * width(6)


def test_a_lucky_twin_doesnt_make_a_range():
    ranges = [
        distillation_gain(drawn(lambda *_: 0.0, 30, seed=seed)).temperature is not None for seed in range(20)
    ]
    assert sum(ranges) <= 3  # a twin 2 standard deviations below its mean comes once in 40


def test_no_cell_lies_beyond_the_trials_and_each_says_how_many_it_holds():
    twin, *trials = drawn(bump, 60)
    taught = [each for each in trials if each.weight_hard < 0.9 * (1 - math.log10(each.temperature))]
    found = distillation_gain([twin, *taught])
    for cell in found.cells:
        middle = math.sqrt(math.prod(cell.temperature)), sum(cell.alpha) / 2
        assert middle[1] <= 0.9 * (1 - math.log10(middle[0]))
    assert 30 < len(found.cells) < 70  # of 100, the trials being those of a triangle
    assert len(taught) / 2 < sum(cell.trials for cell in found.cells) <= len(taught)


def test_trials_that_were_stopped_are_counted_where_they_were_and_not_used():
    trials = drawn(bump, 40)
    at = (3.0, 0.4)
    stopped = trial(200, 0.1, *at, model="m0", state="PRUNED")
    with_it, without = distillation_gain([*trials, stopped]), distillation_gain(trials)
    assert with_it.stopped == 1
    holding = [
        cell
        for cell in with_it.cells
        if cell.temperature[0] <= at[0] < cell.temperature[1] and cell.alpha[0] <= at[1] < cell.alpha[1]
    ]
    assert [cell.stopped for cell in holding] == [1]
    assert [cell.estimate for cell in with_it.cells] == [cell.estimate for cell in without.cells]


def test_one_temperature_alone_gives_a_row_of_cells():
    twin, *taught = drawn(lambda _, alpha: 0.05 - 0.1 * alpha, 20)
    one = [trial(each.number, each.metrics["accuracy"], 4.0, each.weight_hard, "m0") for each in taught]
    found = distillation_gain([twin, *one])
    assert all(cell.temperature == pytest.approx((4.0, 4.0)) for cell in found.cells)
    assert len(found.cells) == 10
    assert 0.3 < found.alpha[1] < 0.6


def test_trials_on_a_slant_line_make_no_surface():
    taught = [trial(n, 0.8, math.exp(0.1 * n), 0.05 * n) for n in range(1, 12)]
    found = distillation_gain([trial(0, 0.7), *taught])
    assert found.reason == "the trials lie on a line"
    assert found.cells == []


def test_equal_gains_everywhere_have_a_range_without_an_error():
    taught = [each.model_copy(update={"metrics": {"accuracy": 0.75}}) for each in drawn(bump, 20)[1:]]
    found = distillation_gain([trial(0, 0.7, model="m0"), *taught])
    assert all(cell.estimate == pytest.approx(0.05) for cell in found.cells)
    assert found.temperature is not None


def test_the_exact_twin_counts_before_any_nearer_point_and_all_its_seeds():
    trials = [
        trial(0, 0.70, seed=0),
        trial(1, 0.74, seed=1001),
        trial(2, 0.90, learning_rate=0.02),
        trial(3, 0.80, 2.0, 0.3, seed=5),
    ]
    pair = pairs(trials)[0]
    assert [twin.number for twin in pair.twins] == [0, 1]
    assert pair.exact
    assert pair.gain == pytest.approx(0.08)


def test_without_an_exact_twin_the_nearest_of_the_same_architecture_counts():
    trials = [
        trial(0, 0.70, learning_rate=0.001, optimizer="sgd"),
        trial(1, 0.71, learning_rate=0.1, optimizer="sgd"),
        trial(2, 0.72, learning_rate=0.012, optimizer="adamw"),
        trial(3, 0.60, learning_rate=0.01, optimizer="sgd", model="other"),
        trial(4, 0.80, 2.0, 0.3, learning_rate=0.012, optimizer="sgd"),
        trial(5, 0.90, 2.0, 0.3, learning_rate=0.012, optimizer="sgd", model="without"),
    ]
    (pair,) = pairs(trials)
    # On a log scale 0.012 lies 0.46 of the range from 0.1 and 0.54 from 0.001; another optimiser lies 1 away.
    assert (pair.trial.number, [twin.number for twin in pair.twins], pair.exact) == (4, [1], False)
    assert distillation_gain(trials).unpaired == 1


def test_another_smoothing_of_labels_or_precision_is_no_exact_twin():
    trials = [trial(0, 0.7, label_smoothing=0.1), trial(1, 0.8, 2.0, 0.3, label_smoothing=0.0)]
    assert not pairs(trials)[0].exact
    assert pairs([trial(0, 0.7, precision="int8"), trial(1, 0.8, 2.0, 0.3)]) == []
