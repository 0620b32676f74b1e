import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hkbench.analysis.intervals import bootstrap, paired_difference, wilson


def test_wilson_gives_newcombes_published_figures() -> None:
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert (wilson(0, 20).low, round(wilson(0, 20).high, 4)) == (0.0, 0.1611)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_stays_a_share(counts: tuple[int, int]) -> None:
    found = wilson(*counts)
    assert 0 <= found.low <= found.estimate <= found.high <= 1


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 4)])
def test_an_impossible_count_is_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson(successes, n)


def pairs(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    cells = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [both, only_a, only_b, neither], axis=0).astype(bool)
    return cells[:, 0], cells[:, 1]


@pytest.mark.parametrize(
    ("cells", "low", "high"),
    [((36, 12, 2, 0), 0.0569, 0.3404), ((54, 0, 0, 0), -0.0664, 0.0664)],
)
def test_paired_difference_gives_newcombes_published_figures(
    cells: tuple[int, int, int, int], low: float, high: float
) -> None:
    # Newcombe 1998, "… based on paired data", table II, method 10.
    found = paired_difference(*pairs(*cells))
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_swapping_the_models_turns_the_difference_round(answers: list[tuple[bool, bool]]) -> None:
    a, b = np.array(answers, dtype=bool).T
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert one.estimate == pytest.approx(a.mean() - b.mean())
    assert (one.low, one.high) == (pytest.approx(-other.high), pytest.approx(-other.low))
    assert one.low <= one.estimate <= one.high


def test_different_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="same pictures"):
        paired_difference(np.ones(3, dtype=bool), np.ones(4, dtype=bool))


def test_a_bootstrap_of_means_is_as_wide_as_their_standard_error_says() -> None:
    values = np.random.default_rng(0).normal(size=(2, 4000)) * [[1.0], [3.0]]
    low, high = bootstrap(lambda drawn: values[:, drawn].mean(axis=-1), 4000, seed=1)
    assert (low < values.mean(axis=1)).all()
    assert (values.mean(axis=1) < high).all()
    np.testing.assert_allclose(high - low, 2 * 1.96 * values.std(axis=1) / np.sqrt(4000), rtol=0.1)


def test_a_bootstrap_of_one_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="two or more"):
        bootstrap(lambda drawn: drawn[None].mean(axis=-1), 1)
