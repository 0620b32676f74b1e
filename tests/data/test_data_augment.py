"""The parameters of views: each follows from seed, view, picture and policy, and keeps to the policy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hkbench.data.augment import COLUMNS, IDENTITY, ViewPolicy, sample_views


def columns_of(rows: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(COLUMNS, rows.reshape(-1, len(COLUMNS)).astype(float).T, strict=True))


@given(views=st.integers(1, 4), count=st.integers(1, 9), seed=st.integers(0, 2**62))
def test_a_draw_depends_on_seed_view_and_picture_only(views: int, count: int, seed: int) -> None:
    table = sample_views(views, count, seed, ViewPolicy())
    assert table.parameters.shape == (views, count, len(COLUMNS))
    assert table.parameters.dtype == np.float16
    larger = sample_views(views + 2, count + 3, seed, ViewPolicy())
    assert np.array_equal(larger.parameters[:views, :count], table.parameters)
    assert sample_views(views, count, seed, ViewPolicy()).key == table.key != larger.key


def test_seed_and_policy_change_the_key() -> None:
    policies = (ViewPolicy(), ViewPolicy(min_scale=0.5))
    keys = {sample_views(2, 5, seed, policy).key for seed in (1, 2) for policy in policies}
    assert len(keys) == 4


def test_draws_keep_to_the_policy_and_spread_over_it() -> None:
    policy = ViewPolicy(min_scale=0.6, max_aspect=4 / 3, flip=0.25, rotation_deg=10, brightness=0.3)
    rows = sample_views(4, 5_000, 69, policy).parameters.reshape(-1, len(COLUMNS)).astype(float)
    column = dict(zip(COLUMNS, rows.T, strict=True))
    assert np.all(np.abs(column["centre_x"]) + column["half_width"] <= 1.002)
    assert np.all(np.abs(column["centre_y"]) + column["half_height"] <= 1.002)
    area = column["half_width"] * column["half_height"]
    assert area.min() > 0.59
    assert np.quantile(area, 0.02) < 0.65
    assert np.degrees(np.abs(column["rotation_rad"])).max() == pytest.approx(10, abs=0.1)
    assert np.mean(column["mirror"] == -1) == pytest.approx(0.25, abs=0.02)
    assert (column["brightness"].min(), column["brightness"].max()) == pytest.approx((0.7, 1.3), abs=0.01)
    assert np.abs(np.corrcoef(rows[:, [0, 4, 6, 7, 8]].T) - np.eye(5)).max() < 0.03


def test_a_policy_that_changes_nothing_gives_identity_rows() -> None:
    still = ViewPolicy(
        min_scale=1, max_aspect=1, flip=0, rotation_deg=0, brightness=0, contrast=0, saturation=0
    )
    assert np.all(sample_views(2, 50, 1, still).parameters == np.array(IDENTITY, np.float16))


@pytest.mark.parametrize(
    "changes",
    [{"min_scale": 0.0}, {"max_aspect": 0.5}, {"flip": 1.5}, {"contrast": float("nan")}, {"mixup": 2}],
)
def test_a_policy_out_of_range_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        ViewPolicy(**changes)


GOLDEN = [
    [0.10706, 0.1131, 0.893, 0.7383, -0.03244, 1.0, 0.9463, 0.8657, 1.1045],
    [-0.06586, 0.02898, 0.8506, 0.9556, -0.0406, 1.0, 0.958, 1.149, 0.963],
    [-0.113, 0.00796, 0.8696, 0.958, -0.03873, -1.0, 0.972, 1.113, 1.122],
]
"""The second view of sample_views(2, 3, 69, ViewPolicy()) as it was before erasing and mixup came."""


def test_a_new_column_leaves_the_older_ones_as_they_were() -> None:
    plain = sample_views(2, 3, 69, ViewPolicy()).parameters
    more = sample_views(2, 3, 69, ViewPolicy(erasing=0.5, mixup=0.5)).parameters
    assert np.array_equal(plain[..., :9], more[..., :9])
    np.testing.assert_allclose(plain[1, :, :9].astype(float), GOLDEN, rtol=1e-3)


def test_erasing_keeps_to_its_probability_area_and_the_view() -> None:
    column = columns_of(sample_views(2, 5_000, 1, ViewPolicy(erasing=0.3)).parameters)
    erased = column["erase_half_width"] > 0
    assert erased.mean() == pytest.approx(0.3, abs=0.02)
    area = (column["erase_half_width"] * column["erase_half_height"])[erased]
    assert 0.018 < area.min() < 0.03
    assert 0.3 < area.max() < 0.335
    aspect = column["erase_half_width"][erased] / column["erase_half_height"][erased]
    assert (aspect.min(), aspect.max()) == pytest.approx((0.3, 3.3), rel=0.05)
    assert np.all(np.abs(column["erase_x"]) + column["erase_half_width"] <= 1.002)
    assert np.all(np.abs(column["erase_y"]) + column["erase_half_height"] <= 1.002)
    untouched = {name: column[name][~erased] for name in COLUMNS if name.startswith("erase")}
    assert all(np.all(values == 0) for values in untouched.values())


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0])
def test_shares_are_those_of_a_beta_distribution(alpha: float) -> None:
    table = sample_views(1, 20_000, 3, ViewPolicy(mixup=alpha))
    share = table.parameters[0, :, -1].astype(float)
    assert share.min() >= 0.5
    variance = 1 / (4 * (2 * alpha + 1))  # of Beta(α, α), about its mean of 1/2; folding keeps it
    assert np.mean((share - 0.5) ** 2) == pytest.approx(variance, rel=0.02)
    fourth = 3 / (16 * (2 * alpha + 1) * (2 * alpha + 3))
    assert np.mean((share - 0.5) ** 4) == pytest.approx(fourth, rel=0.03)


def test_partners_are_any_pictures_and_shares_don_t_depend_on_how_many_there_are() -> None:
    policy = ViewPolicy(mixup=0.4)
    table, larger = sample_views(2, 400, 3, policy), sample_views(4, 700, 3, policy)
    assert table.partners is not None
    assert table.partners.dtype == np.int32
    assert table.partners.shape == (2, 400)
    assert 0 <= table.partners.min() < 5
    assert 395 < table.partners.max() < 400
    assert len(np.unique(table.partners)) > 300
    assert np.array_equal(table.parameters, larger.parameters[:2, :400])
    assert sample_views(2, 400, 3, ViewPolicy()).partners is None
    assert table.key != sample_views(2, 400, 3, ViewPolicy()).key
