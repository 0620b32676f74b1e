"""The pixels of views: torchvision's, the same for the same row, and each its own picture's alone."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from hkbench.data.augment import COLUMNS, IDENTITY, ViewPolicy, sample_views
from hkbench.data.render import ERASED, mix_views, plain, render_views

torch.set_num_threads(1)
HALF_A_LEVEL = 0.5 / 255 + 1e-4
"""Views are rounded to 256 levels, torchvision's floats aren't."""


def apply_views(batch: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    return plain(render_views(batch, parameters))


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
    torch.testing.assert_close(
        views, tv.adjust_brightness(plain(batch), brightness), atol=HALF_A_LEVEL, rtol=0
    )


@given(contrast=st.floats(0.5, 1.4), seed=st.integers(0, 99))
def test_contrast_is_torchvision_s(contrast: float, seed: int) -> None:
    batch = pictures(1, 16, seed)
    views = apply_views(batch, row(contrast=contrast))
    torch.testing.assert_close(views, tv.adjust_contrast(plain(batch), contrast), atol=HALF_A_LEVEL, rtol=0)


@given(saturation=st.floats(0, 1.4), seed=st.integers(0, 99))
def test_saturation_is_torchvision_s(saturation: float, seed: int) -> None:
    batch = pictures(1, 16, seed)
    views = apply_views(batch, row(saturation=saturation))
    torch.testing.assert_close(
        views, tv.adjust_saturation(plain(batch), saturation), atol=HALF_A_LEVEL, rtol=0
    )


@given(factors=st.tuples(*[st.floats(0.85, 1.15)] * 3), seed=st.integers(0, 99))
def test_the_three_colour_steps_are_torchvision_s_one_after_the_other(
    factors: tuple[float, float, float], seed: int
) -> None:
    brightness, contrast, saturation = factors
    batch = pictures(1, 16, seed)
    expected = tv.adjust_brightness(plain(batch), brightness)
    expected = tv.adjust_saturation(tv.adjust_contrast(expected, contrast), saturation)
    views = apply_views(batch, row(brightness=brightness, contrast=contrast, saturation=saturation))
    torch.testing.assert_close(views, expected, atol=HALF_A_LEVEL, rtol=0)


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
    torch.testing.assert_close(views, tv.hflip(plain(batch)), atol=HALF_A_LEVEL, rtol=0)


@settings(max_examples=25)
@given(degrees=st.floats(-45, 45), side=st.sampled_from([32, 64, 96]))
def test_a_rotation_about_the_centre_is_torchvision_s(degrees: float, side: int) -> None:
    batch = pictures(1, side)
    views = apply_views(batch, row(rotation_rad=math.radians(degrees)))
    expected = tv.rotate(plain(batch), degrees, InterpolationMode.BILINEAR)
    inside = tv.rotate(torch.ones(1, 1, side, side), degrees, InterpolationMode.BILINEAR) > 0.999
    inside = inside.expand_as(views)
    torch.testing.assert_close(views[inside], expected[inside], atol=HALF_A_LEVEL + 2e-3, rtol=0)


def test_a_crop_shows_its_part_of_the_picture() -> None:
    batch = pictures(1, 64)
    views = apply_views(batch, row(centre_x=0.5, centre_y=-0.5, half_width=0.5, half_height=0.5))
    corner = plain(batch)[:, :, :32, 32:]
    expected = torch.nn.functional.interpolate(corner, size=64, mode="bilinear", align_corners=False)
    torch.testing.assert_close(views[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=HALF_A_LEVEL, rtol=0)


@given(data=st.data(), side=st.sampled_from([32, 50]), seed=st.integers(0, 99))
def test_a_crop_is_torchvision_s(data: st.DataObject, side: int, seed: int) -> None:
    width, height = (data.draw(st.integers(side // 2, side)) for _ in range(2))
    left, top = data.draw(st.integers(0, side - width)), data.draw(st.integers(0, side - height))
    batch = pictures(1, side, seed)
    view = apply_views(
        batch,
        row(centre_x=(2 * left + width) / side - 1, centre_y=(2 * top + height) / side - 1,
            half_width=width / side, half_height=height / side),
    )  # fmt: skip
    expected = tv.resized_crop(plain(batch), top, left, height, width, [side, side], antialias=False)
    # At its very edge torchvision repeats the crop's last pixel, a view blends in its neighbour.
    view, expected = view[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1]
    torch.testing.assert_close(view, expected, atol=HALF_A_LEVEL, rtol=0)


@settings(max_examples=50)
@given(
    degrees=st.floats(-45, 45),
    half=st.floats(0.4, 1),
    at=st.tuples(*[st.floats(-0.3, 0.3)] * 2),
    mirrored=st.booleans(),
)
def test_crop_turn_and_mirror_at_once_are_torchvision_s_affine(
    degrees: float, half: float, at: tuple[float, float], mirrored: bool
) -> None:
    side, angle = 64, math.radians(degrees)
    batch = pictures(1, side)
    view = apply_views(
        batch,
        row(centre_x=at[0], centre_y=at[1], half_width=half, half_height=half, rotation_rad=angle,
            mirror=-1 if mirrored else 1),
    )  # fmt: skip
    # torchvision moves after it turns and scales, so the crop's centre is turned and scaled back.
    moved = (
        -(math.cos(angle) * at[0] + math.sin(angle) * at[1]) / half * side / 2,
        -(-math.sin(angle) * at[0] + math.cos(angle) * at[1]) / half * side / 2,
    )

    def turned(picture: torch.Tensor) -> torch.Tensor:
        bilinear = InterpolationMode.BILINEAR
        done = tv.affine(picture, -degrees, list(moved), 1 / half, [0.0, 0.0], interpolation=bilinear)
        return tv.hflip(done) if mirrored else done

    inside = (turned(torch.ones(1, 1, side, side)) > 0.999).expand_as(view)
    torch.testing.assert_close(view[inside], turned(plain(batch))[inside], atol=HALF_A_LEVEL + 2e-3, rtol=0)


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
    assert torch.equal(together, alone)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**31), side=st.sampled_from([16, 33, 64]), count=st.integers(2, 7))
def test_the_same_row_gives_the_same_pixels_whatever_is_beside_it(seed: int, side: int, count: int) -> None:
    batch = torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed % 97))
    batch = batch.to(torch.uint8)
    policy = ViewPolicy(erasing=0.5, rotation_deg=30, min_scale=0.3)
    rows = torch.from_numpy(sample_views(1, count, seed, policy).parameters[0])
    together = render_views(batch, rows)
    assert together.dtype == torch.uint8
    assert together.is_contiguous(memory_format=torch.channels_last)
    for index in range(count):
        one = slice(index, index + 1)
        assert torch.equal(render_views(batch[one], rows[one]), together[one])
        as_stored = batch[one].contiguous(memory_format=torch.channels_last)
        assert torch.equal(render_views(as_stored, rows[one]), together[one])


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("side", [33, 200, 224])
def test_a_large_view_is_the_same_alone_and_in_a_batch_on_two_threads(side: int) -> None:
    """A mean over a whole picture at once isn't, see `_change_colour`."""
    count = 17
    generator = torch.Generator().manual_seed(224 * count)
    batch = torch.randint(0, 256, (count, 3, side, side), generator=generator).to(torch.uint8)
    policy = ViewPolicy(erasing=0.5, rotation_deg=30, min_scale=0.3, mixup=1)
    rows = torch.from_numpy(sample_views(1, count, 224, policy).parameters[0])
    together = render_views(batch, rows)
    alone = [render_views(batch[i : i + 1], rows[i : i + 1]) for i in range(count)]
    assert torch.equal(together, torch.cat(alone))
    others, share = together.flip(0), rows[:, -1]
    mixed = [mix_views(alone[i], others[i : i + 1], share[i : i + 1]) for i in range(count)]
    assert torch.equal(mix_views(together, others, share), torch.cat(mixed))


@settings(max_examples=50)
@given(seed=st.integers(0, 2**31), side=st.sampled_from([16, 32, 64]))
def test_erasing_is_torchvision_s(seed: int, side: int) -> None:
    batch = pictures(1, side)
    rows = torch.from_numpy(sample_views(1, 1, seed, ViewPolicy(erasing=1.0)).parameters[0])
    erased = render_views(batch, rows)
    whole = rows.clone()
    whole[:, 9:13] = 0
    centre_x, centre_y, half_width, half_height = rows[0, 9:13].float().numpy()
    centres = np.arange(1 - side, side, 2, dtype=np.float32) / np.float32(side)
    across = np.flatnonzero(abs(centres - centre_x) < half_width)
    down = np.flatnonzero(abs(centres - centre_y) < half_height)
    box = (int(down[0]), int(across[0]), len(down), len(across))  # the smallest rectangle has a pixel
    assert torch.equal(erased, tv.erase(render_views(batch, whole), *box, torch.tensor(ERASED)))


@settings(max_examples=30)
@given(
    degrees=st.floats(-30, 30),
    mirrored=st.booleans(),
    factors=st.tuples(*[st.floats(0.85, 1.15)] * 3),
    seed=st.integers(0, 99),
)
def test_the_colours_of_a_turned_view_are_torchvision_s_steps_one_by_one(
    degrees: float, mirrored: bool, factors: tuple[float, float, float], seed: int
) -> None:
    """The affine step is held against torchvision above; contrast's mean is of the picture as turned."""
    side = 64
    batch = pictures(1, side, seed)
    brightness, contrast, saturation = factors
    angle = math.radians(degrees)
    view = apply_views(
        batch,
        row(rotation_rad=angle, mirror=-1 if mirrored else 1, brightness=brightness, contrast=contrast,
            saturation=saturation),
    )  # fmt: skip
    turned = plain(render_views(batch, row(rotation_rad=angle, mirror=-1 if mirrored else 1)))
    expected = tv.adjust_brightness(turned, brightness)
    expected = tv.adjust_saturation(tv.adjust_contrast(expected, contrast), saturation)
    torch.testing.assert_close(view, expected, atol=3 * HALF_A_LEVEL, rtol=0)


@given(share=st.floats(0.5, 1), seed=st.integers(0, 99))
def test_mixing_is_a_weighted_mean(share: float, seed: int) -> None:
    one, other = pictures(2, 8, seed), pictures(2, 8, seed + 1)
    shares = torch.tensor([share, 1.0])
    mixed = mix_views(one, other, shares)
    weight = shares.double().view(-1, 1, 1, 1).numpy()
    expected = one.numpy() * weight + other.numpy() * (1 - weight)
    assert mixed.dtype == torch.uint8
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert np.abs(mixed.numpy() - expected).max() <= 0.501
    assert torch.equal(mixed[1], one[1])
