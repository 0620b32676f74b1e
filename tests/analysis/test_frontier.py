import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hkbench.analysis.frontier import hypervolume, non_dominated, pareto_ranks

points = st.tuples(st.integers(0, 9), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(0, 5).map(float) | st.just(float("nan")))
)


def beats(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


@given(points)
def test_a_point_is_on_the_frontier_exactly_when_nothing_beats_it(values: np.ndarray) -> None:
    whole = ~np.isnan(values).any(axis=1)
    expected = [
        bool(whole[i]) and not any(beats(values[j], values[i]) for j in range(len(values)))
        for i in range(len(values))
    ]
    assert non_dominated(values).tolist() == expected


@given(points)
def test_ranks_start_with_the_frontier_and_each_is_beaten_by_one_before_it(values: np.ndarray) -> None:
    ranks = pareto_ranks(values)
    whole = ~np.isnan(values).any(axis=1)
    assert ((ranks == 1) == non_dominated(values))[whole].all()
    for i in np.flatnonzero(whole & (ranks > 1)):
        assert any(beats(values[j], values[i]) for j in np.flatnonzero(ranks == ranks[i] - 1))
    if (~whole).any() and whole.any():
        assert ranks[~whole].min() > ranks[whole].max()


def test_equal_points_are_all_kept() -> None:
    assert non_dominated(np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 2.0]])).tolist() == [True, True, False]


def test_no_points_have_no_frontier() -> None:
    assert non_dominated(np.empty((0, 3))).tolist() == []
    assert pareto_ranks(np.empty((0, 3))).tolist() == []
    assert hypervolume(np.empty((0, 2)), np.ones(2)) == 0


@given(points)
def test_hypervolume_counts_the_unit_cells_that_are_dominated(values: np.ndarray) -> None:
    reference = np.full(values.shape[1], 4.0)
    corners = np.stack(np.meshgrid(*[np.arange(4.0)] * values.shape[1], indexing="ij"), axis=-1)
    corners = corners.reshape(-1, values.shape[1])
    covered = sum(any((row <= corner).all() for row in values) for corner in corners)
    assert hypervolume(values, reference) == pytest.approx(covered)


def test_hypervolume_of_a_known_staircase() -> None:
    assert hypervolume(np.array([[1.0, 3.0], [2.0, 1.0]]), np.array([4.0, 4.0])) == pytest.approx(7.0)
