"""The halving rule: it stops what is beaten in everything, nothing that may yet be on the frontier."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hkbench.analysis.frontier import non_dominated
from hkbench.scheduling.scheduler import ParetoHalving
from hkbench.spaces.space import Schedule

SCHEDULE = Schedule(max_epochs=9, grace=1, reduction=3)
ACCURACY = {"accuracy": "maximize"}
BOTH = {"accuracy": "maximize", "artifact_bytes": "minimize"}


def train(rule, number, curve, *, size=None):
    """Report a curve of accuracies epoch by epoch; return the epoch at which the rule stops it, or None."""
    for epoch, accuracy in enumerate(curve, start=1):
        losses = [-accuracy] if size is None else [-accuracy, size]
        if not rule.goes_on(number, epoch, losses):
            return epoch
    return None


def curve_to(final, noise=0.0, seed=0):
    """Return nine accuracies that rise to `final`."""
    rise = np.sqrt(np.linspace(1 / 9, 1, 9))
    return list(final * rise + noise * np.random.default_rng(seed).normal(size=9))


def with_finished(*finals, schedule=SCHEDULE, size=None):
    """Return a rule that has seen so many trials train to their end."""
    objectives = ACCURACY if size is None else BOTH
    rule = ParetoHalving(schedule, objectives)
    for number, final in enumerate(finals):
        for epoch, accuracy in enumerate(curve_to(final, 0.005, number), start=1):
            rule.goes_on(number, epoch, [-accuracy] if size is None else [-accuracy, size], again=True)
    return rule


FINALS = (0.5, 0.6, 0.7, 0.55, 0.65, 0.8, 0.75, 0.52)


def test_nothing_is_stopped_before_some_trials_have_finished():
    rule = ParetoHalving(SCHEDULE, ACCURACY)
    for number in range(40):
        assert rule.goes_on(number, 1, [float(number)])


def test_what_cannot_catch_up_is_stopped_at_the_first_rung():
    rule = with_finished(*FINALS)
    for number in range(20, 26):
        train(rule, number, curve_to(0.8)[:1])
    assert train(rule, 30, curve_to(0.2)) == 1


def test_what_may_yet_be_best_is_not_stopped_however_low_it_ranks():
    rule = with_finished(*FINALS)
    for number in range(20, 40):
        train(rule, number, [0.9])
    assert train(rule, 50, curve_to(0.795)[:8]) is None


def test_only_rungs_decide():
    rule = with_finished(*FINALS)
    for number in range(20, 30):
        train(rule, number, curve_to(0.8)[:1])
    rule.goes_on(60, 1, [-0.5])
    assert rule.goes_on(60, 2, [0.0])
    for number in range(20, 30):
        rule.goes_on(number, 3, [-0.8])
    assert not rule.goes_on(60, 3, [0.0 - 0.05])


def test_a_small_poor_network_is_not_stopped_for_a_large_good_one():
    rule = with_finished(*FINALS, size=1e6)
    for number in range(20, 26):
        rule.goes_on(number, 1, [-0.5, 1e6])
    assert train(rule, 30, curve_to(0.2), size=1e5) is None
    assert train(rule, 31, curve_to(0.2), size=2e6) == 1


def test_what_breaks_a_limit_ranks_behind_what_keeps_it():
    rule = with_finished(*FINALS)
    for number in range(20, 26):
        rule.goes_on(number, 1, [-0.1])
    assert not rule.goes_on(30, 1, [-0.15], violation=0.2)


def test_a_trial_that_breaks_a_limit_at_its_end_beats_nothing():
    rule = ParetoHalving(SCHEDULE, ACCURACY)
    for number, final in enumerate(FINALS):
        for epoch, accuracy in enumerate(curve_to(final, 0.005, number), start=1):
            rule.goes_on(number, epoch, [-accuracy], violation=0.1)
    for number in range(20, 40):
        rule.goes_on(number, 1, [-0.9])
    assert rule.goes_on(50, 1, [-0.05])


def test_reporting_an_epoch_again_changes_nothing():
    once, twice = with_finished(*FINALS), with_finished(*FINALS)
    for rule in (once, twice, twice):
        for number in range(20, 30):
            rule.goes_on(number, 1, [-0.02 * number])
    values = np.linspace(0.05, 0.6, 12)
    decisions = [
        [rule.goes_on(100 + at, 1, [-value]) for at, value in enumerate(values)] for rule in (once, twice)
    ]
    assert decisions[0] == decisions[1]
    assert len(set(decisions[0])) == 2


def test_what_a_thawed_trial_had_before_stops_it_no_second_time():
    rule = with_finished(*FINALS)
    for number in range(20, 26):
        train(rule, number, [0.5])
    assert train(rule, 30, curve_to(0.2)) == 1
    assert rule.goes_on(31, 1, [-curve_to(0.2)[0]], again=True)


def test_seconds_are_counted_where_the_schedule_says_so():
    schedule = Schedule(max_epochs=9, grace=10, unit="seconds")
    rule = with_finished(*FINALS, schedule=schedule)
    for number in range(20, 26):
        rule.goes_on(number, 1, [-0.5], spent=12.0)
    assert rule.goes_on(30, 1, [-0.05], spent=9.0)
    assert not rule.goes_on(30, 2, [-0.06], spent=18.0)


def test_brackets_give_some_trials_a_longer_grace():
    schedule = Schedule(max_epochs=27, grace=1, brackets=3)
    rule = ParetoHalving(schedule, ACCURACY)
    counts = np.bincount([rule.bracket_of(number) for number in range(1300)])
    assert counts / 1300 == pytest.approx(np.array([9, 3, 1]) / 13, abs=0.01)
    late = next(number for number in range(99) if rule.bracket_of(number) == 2)
    assert all(rule.goes_on(late, epoch, [1.0]) for epoch in range(1, 9))


@given(arrays(np.float64, (12, 2), elements=st.floats(0, 1)))
def test_nothing_on_the_frontier_of_what_has_finished_is_stopped(losses):
    """A trial that already beats or equals all that has finished may only become better."""
    rule = with_finished(*FINALS, size=0.5)
    finished = [[-final, 0.5] for final in FINALS]
    for number, row in enumerate(losses):
        goes_on = rule.goes_on(100 + number, 3, [-row[0], row[1]])
        if non_dominated(np.array([*finished, [-row[0], row[1]]]))[-1]:
            assert goes_on


def test_a_missing_objective_neither_stops_the_rule_nor_counts():
    rule = with_finished(*FINALS)
    assert rule.goes_on(50, 9, [math.nan])
    for number in range(20, 26):
        rule.goes_on(number, 1, [-0.5])
    assert not rule.goes_on(51, 1, [-0.01])
