from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures_on_disk import encoded, memory_source

from hkbench.data.build import build_store
from hkbench.data.splits import PARTS, SPLIT_SEED, Split, load_split, make_split, shares
from hkbench.errors import UsageError

Sizes = list[list[int]]
"""For each class, the number of pictures of each of its groups."""

sizes = st.lists(st.lists(st.integers(1, 9), min_size=3, max_size=8), min_size=2, max_size=5)


def pictures(of: Sizes) -> tuple[np.ndarray, list[str], list[str], list[str]]:
    rows = [
        (label, f"c{label}/g{group}", f"c{label}/g{group}/{index}")
        for label, groups in enumerate(of)
        for group, count in enumerate(groups)
        for index in range(count)
    ]
    labels = np.array([row[0] for row in rows], dtype=np.int64)
    return (
        labels,
        [row[1] for row in rows],
        [row[2] for row in rows],
        [f"c{label}" for label in range(len(of))],
    )


def split_of(of: Sizes, scheme: str, seed: int = SPLIT_SEED) -> Split:
    labels, groups, ids, classes = pictures(of)
    return make_split(labels, groups, ids, scheme, seed, classes=classes)


def parts_of(split: Split) -> list[np.ndarray]:
    return [split.train, split.validation, split.test]


@given(of=sizes, scheme=st.sampled_from(["random", "by-group"]), seed=st.integers(0, 2**40))
def test_parts_are_disjoint_cover_all_and_have_every_class(of: Sizes, scheme: str, seed: int) -> None:
    labels, *_ = pictures(of)
    split = split_of(of, scheme, seed)
    assert sorted(np.concatenate(parts_of(split)).tolist()) == list(range(len(labels)))
    for part in parts_of(split):
        assert part.dtype == np.int64
        assert set(labels[part]) == set(range(len(of)))


@given(of=sizes)
def test_a_random_split_keeps_the_shares_in_every_class(of: Sizes) -> None:
    labels, *_ = pictures(of)
    split = split_of(of, "random")
    for label in range(len(of)):
        total = np.sum(labels == label)
        for part, share in zip(parts_of(split), (0.7, 0.2, 0.1), strict=True):
            dealt = np.sum(labels[part] == label)
            assert dealt == 1 or abs(dealt - share * total) <= 1  # every part has one, however few there are


@given(of=sizes)
def test_no_group_is_in_two_parts(of: Sizes) -> None:
    _, groups, *_ = pictures(of)
    found = [{groups[index] for index in part} for part in parts_of(split_of(of, "by-group"))]
    assert len(found[0] | found[1] | found[2]) == len(found[0]) + len(found[1]) + len(found[2])


def test_many_equal_groups_are_dealt_to_the_shares() -> None:
    split = split_of([[5] * 20, [5] * 10], "by-group")
    assert [len(part) for part in parts_of(split)] == [105, 30, 15]


def test_a_split_does_not_depend_on_the_order_of_pictures() -> None:
    labels, groups, ids, classes = pictures([[4, 4, 4], [9, 2, 5]])
    order = np.random.default_rng(0).permutation(len(ids))
    shuffled = make_split(
        labels[order], [groups[i] for i in order], [ids[i] for i in order], "by-group", classes=classes
    )
    split = make_split(labels, groups, ids, "by-group", classes=classes)
    assert shuffled.hash == split.hash
    assert {ids[order[i]] for i in shuffled.test} == {ids[i] for i in split.test}


def test_the_split_is_the_one_that_shipped_teachers_were_trained_on() -> None:
    """Golden: a change here makes every shipped teacher useless. Renew it only with the teachers."""
    split = split_of([[4, 4, 4], [9, 2, 5]], "random")
    assert split.hash[:16] == "e5a65aab0c32f893"
    assert split_of([[4, 4, 4], [9, 2, 5]], "by-group").hash[:16] == "aa796bd630a1b93f"


def test_scheme_and_seed_change_the_hash() -> None:
    of = [[5] * 9, [5] * 9]
    hashes = {split_of(of, "random").hash, split_of(of, "random", 70).hash, split_of(of, "by-group").hash}
    assert len(hashes) == 3


def test_the_true_shares_are_told() -> None:
    labels, *_ = pictures([[6, 3, 1], [7, 2, 1]])
    found = shares(split_of([[6, 3, 1], [7, 2, 1]], "by-group"), labels)
    assert [row.part for row in found] == list(PARTS)
    assert [row.pictures for row in found] == [13, 5, 2]
    assert found[0].share == pytest.approx(0.65)
    assert (found[0].smallest_class_share, found[0].largest_class_share) == pytest.approx((0.6, 0.7))


def test_a_class_with_two_groups_is_named() -> None:
    with pytest.raises(UsageError, match=r"'c1' has 2 group\(s\).*--split random"):
        split_of([[3, 3, 3], [5, 5]], "by-group")


def test_a_class_with_two_pictures_is_named() -> None:
    with pytest.raises(UsageError, match=r"'c1' has 2 picture\(s\)"):
        split_of([[3, 3, 3], [2]], "random")


def test_no_groups_are_refused_with_what_to_do() -> None:
    labels, _, ids, classes = pictures([[3, 3, 3], [3, 3, 3]])
    with pytest.raises(UsageError, match="--group-by"):
        make_split(labels, None, ids, "by-group", classes=classes)


def test_a_group_in_two_classes_is_refused() -> None:
    labels, groups, ids, classes = pictures([[3, 3, 3], [3, 3, 3]])
    with pytest.raises(UsageError, match=r"Group 'c0/g0' has pictures of 'c0' and of 'c1'"):
        make_split(labels, [*groups[:-1], groups[0]], ids, "by-group", classes=classes)


def test_an_unknown_scheme_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'by-group'"):
        split_of([[3, 3, 3], [3, 3, 3]], "group")


def test_all_sizes_of_a_store_share_one_split_even_with_rejected_pictures(tmp_path: Path) -> None:
    contents = [encoded(index) for index in range(29)] + [b"no picture"]
    source = memory_source(contents)
    small, large = (build_store(source, size, cache=tmp_path) for size in (8, 16))
    assert load_split(small, "random").hash == load_split(large, "random").hash
    assert load_split(small, "by-group").hash != load_split(small, "random").hash
    assert len(list(tmp_path.rglob("split-*.json"))) == 2


@pytest.mark.parametrize("text", ['{"hash": "0123456789abcdef"}', "{torn", "[]"])
def test_another_written_split_is_refused(tmp_path: Path, text: str) -> None:
    store = build_store(memory_source([encoded(index) for index in range(12)]), 8, cache=tmp_path)
    load_split(store, "random")
    (path,) = tmp_path.rglob("split-*.json")
    path.write_text(text)
    with pytest.raises(UsageError, match="Delete that file"):
        load_split(store, "random")
