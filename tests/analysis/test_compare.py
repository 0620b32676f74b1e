from dataclasses import replace
from math import comb

import numpy as np
import pytest

from hkbench.analysis.compare import compare, mcnemar
from hkbench.analysis.predictions import PredictionBlock
from hkbench.errors import UsageError


def cells(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [both, only_a, only_b, neither], axis=0).astype(bool)
    return pairs[:, 0], pairs[:, 1]


def block(model_id: str, right: np.ndarray) -> PredictionBlock:
    return PredictionBlock(
        model_id=model_id,
        part="test",
        picture_ids=[str(place) for place in range(len(right))],
        groups=None,
        labels=np.zeros(len(right), dtype=np.int64),
        logits=np.eye(3, dtype=np.float16)[np.where(right, 0, 1)],
    )


@pytest.mark.parametrize(("only_a", "only_b"), [(1, 5), (5, 1), (3, 3), (0, 8), (12, 30)])
def test_p_is_the_chance_of_so_uneven_a_split_of_the_discordant_pictures(only_a: int, only_b: int) -> None:
    n, fewer = only_a + only_b, min(only_a, only_b)
    expected = min(1.0, 2 * sum(comb(n, k) for k in range(fewer + 1)) / 2**n)
    found = mcnemar(*cells(40, only_a, only_b, 7))
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p_value == pytest.approx(expected)


def test_without_discordant_pictures_nothing_speaks_against_chance() -> None:
    assert mcnemar(*cells(9, 0, 0, 4)).p_value == 1.0


def test_pictures_that_both_have_right_or_wrong_do_not_count() -> None:
    assert mcnemar(*cells(0, 2, 9, 0)) == mcnemar(*cells(500, 2, 9, 300))


def test_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="same pictures"):
        mcnemar(np.ones(3, dtype=bool), np.ones(4, dtype=bool))


def test_the_verdict_names_the_more_accurate_one() -> None:
    a, b = cells(60, 30, 5, 5)
    found = compare(block("a", a), block("b", b))
    assert found.verdict == compare(block("b", b), block("a", a)).verdict == "a is more accurate than b"
    assert found.difference.estimate == pytest.approx(0.25)
    assert found.mcnemar == mcnemar(a, b)


def test_where_the_interval_holds_zero_no_difference_is_shown() -> None:
    found = compare(*map(block, "ab", cells(60, 8, 5, 5)))
    assert found.difference.holds_zero
    assert found.verdict == "no difference shown"


def test_answers_to_other_pictures_are_refused() -> None:
    a, b = map(block, "ab", cells(5, 2, 1, 1))
    turned = replace(b, picture_ids=b.picture_ids[::-1])
    relabelled = replace(b, labels=b.labels + 1)
    fewer = block("b", np.ones(3, dtype=bool))
    for other in (turned, relabelled, fewer):
        with pytest.raises(UsageError, match="answers to the same pictures; a has 9 of test, b"):
            compare(a, other)
