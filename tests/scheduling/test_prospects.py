"""The optimistic bound on a trial's last epoch."""

import math

import numpy as np
import pytest

from hkbench.scheduling.prospects import FEWEST, Prospects


def learned(curves, confidence=0.95):
    prospects = Prospects([True, False], last=4, confidence=confidence)
    for number, curve in enumerate(curves):
        for epoch, loss in enumerate(curve, start=1):
            prospects.note(number, epoch, [loss, 7.0])
    return prospects


def test_too_few_finished_trials_bound_nothing():
    prospects = learned([[0.9, 0.7, 0.6, 0.5]] * (FEWEST - 1))
    assert prospects.best_case(0, 2, [0.8, 7.0]) == [-math.inf, 7.0]


def test_what_is_known_beforehand_stays_as_it_is():
    prospects = learned([[0.9, 0.7, 0.6, 0.5]] * 9)
    assert prospects.best_case(0, 2, [0.8, 3.0])[1] == 3.0


def test_the_bound_is_never_worse_than_the_present():
    prospects = learned([[0.1, 0.2, 0.3, 0.9 + 0.001 * n] for n in range(9)])
    assert prospects.best_case(0, 1, [0.1, 7.0])[0] == 0.1


def test_the_bound_holds_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(400):
        starts = rng.normal(0.6, 0.1, 11)
        finals = 0.5 * starts + rng.normal(0, 0.03, 11)
        prospects = learned([[a, a, a, b] for a, b in zip(starts[:10], finals[:10], strict=True)], 0.9)
        held.append(prospects.best_case(0, 1, [starts[10], 7.0])[0] <= finals[10])
    assert np.mean(held) == pytest.approx(0.9, abs=0.04)


def test_more_finished_trials_narrow_it():
    rng = np.random.default_rng(1)
    starts = rng.normal(0.6, 0.1, 60)
    curves = [[a, a, a, 0.5 * a + e] for a, e in zip(starts, rng.normal(0, 0.03, 60), strict=True)]
    few, many = learned(curves[:6]), learned(curves)
    assert few.best_case(0, 1, [0.6, 7.0])[0] < many.best_case(0, 1, [0.6, 7.0])[0]


def test_a_forgotten_trial_teaches_nothing():
    prospects = learned([[0.9, 0.7, 0.6]] * 9)
    for number in range(9):
        prospects.forget(number)
        prospects.note(number, 4, [0.5, 7.0])
    assert prospects.best_case(0, 1, [0.9, 7.0])[0] == -math.inf
