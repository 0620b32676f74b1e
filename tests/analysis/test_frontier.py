import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hkbench.analysis.frontier import non_dominated, pareto_ranks

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
