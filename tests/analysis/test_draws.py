import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hkbench.analysis.draws import metrics_of_draws, pictures_of
from hkbench.analysis.metrics import METRICS, metrics_of


@given(st.integers(1, 40), st.integers(2, 9), st.integers(0, 2**31))
@settings(deadline=None, max_examples=40)
def test_each_draw_has_the_metrics_of_its_pictures(n: int, classes: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.integers(-3, 4, (n, classes)).astype(np.float64)  # with equal ones
    labels = generator.integers(0, classes, n)
    cost = generator.uniform(0, 3, n)
    drawn = generator.integers(0, n, (5, n))
    found = metrics_of_draws(pictures_of(logits, labels, cost), drawn)
    assert found.shape == (len(METRICS) + 1, 5)
    for place, pictures in enumerate(drawn):
        expected = metrics_of(logits[pictures], labels[pictures])
        assert found[:-1, place].tolist() == pytest.approx([expected[name] for name in METRICS])
        assert found[-1, place] == pytest.approx(cost[pictures].mean())
