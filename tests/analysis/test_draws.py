import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hkbench.analysis.draws import metrics_of_draws, units_of
from hkbench.analysis.metrics import METRICS, metrics_of, terms_of


@given(st.integers(1, 40), st.integers(2, 9), st.integers(1, 12), st.integers(0, 2**31))
@settings(deadline=None, max_examples=40)
def test_each_draw_has_the_metrics_of_its_pictures(n: int, classes: int, products: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.integers(-3, 4, (n, classes)).astype(np.float64)  # with equal ones
    labels = generator.integers(0, classes, n)
    cost = generator.uniform(0, 3, n)
    units = units_of([str(name) for name in generator.integers(0, products, n)], n)
    count = units.max() + 1
    drawn = generator.integers(0, count, (5, count))
    found = metrics_of_draws(terms_of(logits, labels, cost), units)(drawn)
    assert found.shape == (len(METRICS) + 1, 5)
    for place, chosen in enumerate(drawn):
        pictures = np.concatenate([np.flatnonzero(units == unit) for unit in chosen])
        expected = metrics_of(logits[pictures], labels[pictures])
        assert found[:-1, place].tolist() == pytest.approx([expected[name] for name in METRICS])
        assert found[-1, place] == pytest.approx(cost[pictures].mean())


def test_pictures_of_one_group_are_one_unit() -> None:
    assert units_of(["cup", "mug", "cup"], 3).tolist() == [0, 1, 0]
    assert units_of(None, 3).tolist() == [0, 1, 2]
