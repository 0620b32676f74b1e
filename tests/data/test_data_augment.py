import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from hkbench.data.augment import COLUMNS, IDENTITY, ViewPolicy, apply_views, plain, sample_views
from hkbench.errors import UsageError

torch.set_num_threads(1)


def pictures(count: int, side: int, seed: int = 0) -> torch.Tensor:
    """Smooth pictures, kept off black and white so that no clamp sets in: (count, 3, side, side)."""
    coarse = torch.rand((count, 3, 4, 4), generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, size=side, mode="bilinear", align_corners=False)
    return (fine * 120 + 60).round().to(torch.uint8)


def row(**changes: float) -> torch.Tensor:
    values = dict(zip(COLUMNS, IDENTITY, strict=True)) | changes
    return torch.tensor([[values[name] for name in COLUMNS]])


@pytest.mark.parametrize("side", [32, 64, 96])
def test_identity_gives_the_plain_pictures_exactly(side: int) -> None:
    batch = torch.randint(0, 256, (4, 3, side, side), dtype=torch.uint8)
    rows = torch.cat([row(), row(rotation_rad=0.1), row(), row(mirror=-1)]).half()
    views = apply_views(batch, rows)
    assert views.dtype == torch.float32
    assert torch.equal(views[[0, 2]], batch[[0, 2]] / 255)
    assert not torch.equal(views[1], plain(batch)[1])


@given(brightness=st.floats(0.7, 1.3), seed=st.integers(0, 99))
def test_brightness_is_torchvision_s(brightness: float, seed: int) -> None:
    batch = pictures(1, 16, seed)
    views = apply_views(batch, row(brightness=brightness))
    torch.testing.assert_close(views, tv.adjust_brightness(plain(batch), brightness), atol=1e-4, rtol=0)


@given(contrast=st.floats(0.5, 1.4), seed=st.integers(0, 99))
def test_contrast_is_torchvision_s(contrast: float, seed: int) -> None:
    batch = pictures(1, 16, seed)
    views = apply_views(batch, row(contrast=contrast))
    torch.testing.assert_close(views, tv.adjust_contrast(plain(batch), contrast), atol=1e-4, rtol=0)


@given(saturation=st.floats(0, 1.4), seed=st.integers(0, 99))
def test_saturation_is_torchvision_s(saturation: float, seed: int) -> None:
    batch = pictures(1, 16, seed)
    views = apply_views(batch, row(saturation=saturation))
    torch.testing.assert_close(views, tv.adjust_saturation(plain(batch), saturation), atol=1e-4, rtol=0)


@given(factors=st.tuples(*[st.floats(0.85, 1.15)] * 3), seed=st.integers(0, 99))
def test_the_three_colour_steps_are_torchvision_s_one_after_the_other(
    factors: tuple[float, float, float], seed: int
) -> None:
    brightness, contrast, saturation = factors
    batch = pictures(1, 16, seed)
    expected = tv.adjust_brightness(plain(batch), brightness)
    expected = tv.adjust_saturation(tv.adjust_contrast(expected, contrast), saturation)
    views = apply_views(batch, row(brightness=brightness, contrast=contrast, saturation=saturation))
    torch.testing.assert_close(views, expected, atol=1e-4, rtol=0)


@given(brightness=st.floats(0, 3), contrast=st.floats(0, 3), saturation=st.floats(0, 3))
def test_views_stay_in_range(brightness: float, contrast: float, saturation: float) -> None:
    batch = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    rows = row(brightness=brightness, contrast=contrast, saturation=saturation).repeat(2, 1)
    views = apply_views(batch, rows)
    assert float(views.min()) >= 0
    assert float(views.max()) <= 1


@pytest.mark.parametrize("side", [16, 96])
def test_a_mirror_is_torchvision_s(side: int) -> None:
    batch = pictures(2, side)
    views = apply_views(batch, row(mirror=-1).repeat(2, 1))
    torch.testing.assert_close(views, tv.hflip(plain(batch)), atol=1e-4, rtol=0)


@settings(max_examples=25)
@given(degrees=st.floats(-45, 45), side=st.sampled_from([32, 64, 96]))
def test_a_rotation_about_the_centre_is_torchvision_s(degrees: float, side: int) -> None:
    batch = pictures(1, side)
    views = apply_views(batch, row(rotation_rad=math.radians(degrees)))
    expected = tv.rotate(plain(batch), degrees, InterpolationMode.BILINEAR)
    inside = tv.rotate(torch.ones(1, 1, side, side), degrees, InterpolationMode.BILINEAR) > 0.999
    inside = inside.expand_as(views)
    torch.testing.assert_close(views[inside], expected[inside], atol=2e-3, rtol=0)


def test_a_crop_shows_its_part_of_the_picture() -> None:
    batch = pictures(1, 64)
    views = apply_views(batch, row(centre_x=0.5, centre_y=-0.5, half_width=0.5, half_height=0.5))
    corner = plain(batch)[:, :, :32, 32:]
    expected = torch.nn.functional.interpolate(corner, size=64, mode="bilinear", align_corners=False)
    torch.testing.assert_close(views[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-4, rtol=0)


@settings(max_examples=20)
@given(seed=st.integers(0, 999))
def test_a_row_means_the_same_view_at_every_size(seed: int) -> None:
    large = pictures(2, 192, seed)
    rows = torch.from_numpy(sample_views(1, 2, seed, ViewPolicy()).parameters[0])

    def halved(batch: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(batch, 2)

    small = halved(large.float()).round().to(torch.uint8)
    apart = (apply_views(small, rows) - halved(apply_views(large, rows))).abs()
    assert float(apart.mean()) < 0.005
    assert float(apart.max()) < 0.05


def test_each_picture_has_its_own_view() -> None:
    batch = pictures(3, 32)
    rows = torch.from_numpy(sample_views(1, 3, 5, ViewPolicy()).parameters[0])
    together = apply_views(batch, rows)
    alone = torch.cat([apply_views(batch[i : i + 1], rows[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)


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
    "changes", [{"min_scale": 0.0}, {"max_aspect": 0.5}, {"flip": 1.5}, {"contrast": math.nan}]
)
def test_a_policy_out_of_range_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(changes))):
        ViewPolicy(**changes)
