"""How a newcomer stands among those at its rung."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hkbench.scheduling.rung import Rung, crowding_distances

ROWS = arrays(
    np.float64, st.tuples(st.integers(1, 20), st.just(2)), elements=st.sampled_from([0, 0.25, 0.5, 1])
)


def brute_rank(rows, violations, at):
    """Return how many rows beat the one at `at`."""
    count = 0
    for other in range(len(rows)):
        if violations[other] != violations[at]:
            count += violations[other] < violations[at]
        else:
            count += bool((rows[other] <= rows[at]).all() and (rows[other] < rows[at]).any())
    return count


@given(ROWS, st.integers(0, 2**31))
def test_ranks_are_those_of_counting_all_pairs_again(rows, seed):
    violations = np.random.default_rng(seed).choice([0.0, 0.0, 0.3], len(rows))
    rung = Rung(2)
    for number, row in enumerate(rows):
        standing = rung.place(number, list(row), violations[number])
        seen, known = rows[: number + 1], violations[: number + 1]
        ranks = np.array([brute_rank(seen, known, at) for at in range(number + 1)])
        strictly = int((ranks < ranks[number]).sum())
        tied = int((ranks == ranks[number]).sum())
        assert strictly <= standing.better < strictly + tied
        assert standing.trials == number + 1


@given(ROWS)
def test_placing_again_replaces(rows):
    once, twice = Rung(2), Rung(2)
    for number, row in enumerate(rows):
        once.place(number, list(row))
        twice.place(number, [9.0, 9.0])
    for number, row in enumerate(rows):
        twice.place(number, list(row))
    assert once.place(99, [0.3, 0.3]).better == twice.place(99, [0.3, 0.3]).better


def test_a_full_rung_forgets_its_oldest():
    rung = Rung(1, most=4)
    for number in range(4):
        rung.place(number, [0.0])
    for number in range(4, 8):
        rung.place(number, [10.0 + number])
    standing = rung.place(8, [1.0])
    assert (standing.better, standing.trials) == (0, 4)


def test_those_that_break_limits_less_come_first():
    rung = Rung(1)
    rung.place(0, [5.0])
    rung.place(1, [0.0], 2.0)
    assert rung.place(2, [9.0], 1.0).better == 1


def test_a_value_that_is_no_number_is_the_worst():
    rung = Rung(2)
    rung.place(0, [1.0, 1.0])
    assert rung.place(1, [float("nan"), 0.0]).better == 1


def test_crowding_prefers_ends_and_empty_parts():
    losses = np.array([[0.0, 1.0], [0.1, 0.9], [0.2, 0.8], [1.0, 0.0]])
    distances = crowding_distances(losses)
    assert np.isinf(distances[[0, 3]]).all()
    assert distances[2] > distances[1]
