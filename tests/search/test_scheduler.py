"""The halving rule: it stops what is beaten in everything and nothing that is on the frontier."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hkbench.analysis.frontier import non_dominated
from hkbench.search.scheduler import ParetoHalving
from hkbench.search.space import Schedule

SCHEDULE = Schedule(max_epochs=9, grace=1, reduction=3)


def filled(*losses, epoch=1):
    """Return a rule at whose rung trials with these losses have arrived."""
    rule = ParetoHalving(SCHEDULE)
    for number, row in enumerate(losses):
        rule.goes_on(number, epoch, row)
    return rule


def test_only_rungs_decide():
    rule = filled([0.0], [1.0], [2.0])
    assert not rule.goes_on(9, 1, [9.0])
    assert rule.goes_on(9, 2, [9.0])
    assert rule.goes_on(9, 9, [9.0])


def test_the_first_few_at_a_rung_are_never_stopped():
    rule = ParetoHalving(SCHEDULE)
    assert [rule.goes_on(number, 1, [float(number)]) for number in range(4)] == [True, True, True, False]


def test_the_best_third_goes_on():
    rule = filled(*([float(number)] for number in range(8)))
    assert rule.goes_on(8, 1, [0.5])
    assert rule.goes_on(9, 1, [1.5])
    assert not rule.goes_on(10, 1, [6.5])


def test_a_small_poor_network_is_not_beaten_by_a_large_good_one():
    rule = filled([-0.9, 2e6], [-0.8, 2e6], [-0.7, 2e6])
    assert rule.goes_on(3, 1, [-0.3, 1e5])
    assert not rule.goes_on(4, 1, [-0.2, 3e6])


def test_reporting_a_rung_again_changes_nothing():
    once, twice = ParetoHalving(SCHEDULE), ParetoHalving(SCHEDULE)
    for rule in (once, twice, twice):
        for number in range(6):
            rule.goes_on(number, 1, [float(number)])
    assert [once.goes_on(7, 1, [x]) for x in (0.5, 4.5)] == [twice.goes_on(7, 1, [x]) for x in (0.5, 4.5)]


@given(arrays(np.float64, (12, 3), elements=st.floats(0, 1)))
def test_nothing_on_the_frontier_of_its_rung_is_stopped(losses):
    rule = ParetoHalving(SCHEDULE)
    for number, row in enumerate(losses):
        goes_on = rule.goes_on(number, 3, list(row))
        if non_dominated(losses[: number + 1])[number]:
            assert goes_on
