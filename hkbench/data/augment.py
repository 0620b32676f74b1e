"""Views: augmented versions of pictures, each fully described by a row of stored parameters.

Student and teacher see the same pixels because both apply the same stored row.
"""

import functools
import hashlib
import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hkbench.errors import UsageError

COLUMNS = (
    "centre_x", "centre_y", "half_width", "half_height", "rotation_rad", "mirror",
    "brightness", "contrast", "saturation",
)  # fmt: skip
"""What a row of parameters holds, in order.

The crop's centre and half sides are in units of half a picture's side, with (0, 0) the picture's centre, so
a row means the same view at every size. `mirror` is −1 or 1; the colour columns are factors.
"""
IDENTITY = (0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0)
"""The row that changes nothing."""
LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in grey, as torchvision has them (ITU-R BT.601)."""


@dataclass(frozen=True, kw_only=True)
class ViewPolicy:
    """How far views stray from their pictures.

    `min_scale`: smallest area of the crop, in (0, 1]. `max_aspect`: largest ratio of its sides, ≥ 1.
    `flip`: probability of a mirror image. `rotation_deg`: largest turn to either side, in [0, 180].
    `brightness`, `contrast`, `saturation`: factors are drawn from 1 ± this, each in [0, 1].

    Raises:
        UsageError: a value outside its range.
    """

    min_scale: float = 0.6
    max_aspect: float = 4 / 3
    flip: float = 0.5
    rotation_deg: float = 10.0
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __post_init__(self) -> None:
        ranges = {"min_scale": (1e-3, 1.0), "max_aspect": (1.0, 10.0), "rotation_deg": (0.0, 180.0)}
        for name, value in asdict(self).items():
            low, high = ranges.get(name, (0.0, 1.0))
            if not low <= value <= high:
                raise UsageError(f"'{name}' of the views must lie in {low:g} to {high:g}, not {value:g}.")


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewTable:
    """The parameters of every view: float16 (views, pictures, len(COLUMNS)); `key` is a hex hash of them."""

    parameters: NDArray[np.float16]
    policy: ViewPolicy
    seed: int
    key: str


def sample_views(views: int, pictures: int, seed: int, policy: ViewPolicy) -> ViewTable:
    """Draw the parameters of `views` views of each of `pictures` pictures.

    A row depends on (seed, view, picture, policy) only: more views or pictures leave the others as they are.
    """
    draws = _uniform(views, pictures, len(COLUMNS), seed)  # (columns, views, pictures)
    at_x, at_y, area, aspect, turn, mirror, *colour = draws
    area = policy.min_scale + (1 - policy.min_scale) * area
    stretch = np.exp(math.log(policy.max_aspect) * (aspect - 0.5))  # square root of the ratio of sides
    half_width = np.minimum(1.0, np.sqrt(area) * stretch)
    half_height = np.minimum(1.0, np.sqrt(area) / stretch)
    strengths = (policy.brightness, policy.contrast, policy.saturation)
    columns = (
        (2 * at_x - 1) * (1 - half_width),
        (2 * at_y - 1) * (1 - half_height),
        half_width,
        half_height,
        math.radians(policy.rotation_deg) * (2 * turn - 1),
        np.where(mirror < policy.flip, -1.0, 1.0),
        *(1 + strength * (2 * draw - 1) for strength, draw in zip(strengths, colour, strict=True)),
    )
    parameters = np.stack(columns, axis=-1).astype(np.float16)
    key = hashlib.sha256(repr(parameters.shape).encode() + parameters.tobytes()).hexdigest()
    return ViewTable(parameters=parameters, policy=policy, seed=seed, key=key)


def apply_views(pictures: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Make one view of each picture, on the device of `pictures`.

    `pictures` is uint8 (batch, 3, side, side); `parameters` is float (batch, len(COLUMNS)), any precision,
    same device. Returns float32 (batch, 3, side, side) in [0, 1]; rows of IDENTITY give `plain` exactly.
    """
    parameters = parameters.float()
    unchanged = plain(pictures)
    views = torch.nn.functional.grid_sample(
        unchanged, _grid(parameters, pictures.shape[-1]), padding_mode="border", align_corners=False
    )
    _change_colour(views, *parameters[:, 6:].T.reshape(3, -1, 1, 1, 1))
    # Resampling rounds, so even a row that changes nothing would not give back the very same floats.
    same = (parameters == _identity(parameters.device)).all(dim=1)
    return torch.where(same.view(-1, 1, 1, 1), unchanged, views, out=views)


def plain(pictures: torch.Tensor) -> torch.Tensor:
    """Return uint8 pictures as float32 in [0, 1], for evaluation."""
    return pictures.float().div_(255)


@functools.cache
def _identity(device: torch.device) -> torch.Tensor:
    """Return IDENTITY on a device. Kept there, for sending it with every batch makes a GPU wait for it."""
    return torch.tensor(IDENTITY, device=device)


def _grid(parameters: torch.Tensor, side: int) -> torch.Tensor:
    """Return where each pixel of a view lies in its picture: (batch, side, side, 2), x before y.

    Same as `affine_grid`, as a sum of a column's and a row's share, which takes a tenth of its time.
    """
    centre_x, centre_y, half_width, half_height, rotation, mirror = parameters[:, :6].T.reshape(6, -1, 1)
    steps = torch.arange(1 - side, side, 2, device=parameters.device) / side  # pixel centres in (-1, 1)
    across, down = half_width * mirror * steps, half_height * steps  # (batch, side)
    cos, sin = rotation.cos(), rotation.sin()
    column = torch.stack((cos * across + centre_x, sin * across + centre_y), dim=-1)
    row = torch.stack((-sin * down, cos * down), dim=-1)
    return row.unsqueeze(2) + column.unsqueeze(1)


def _change_colour(
    views: torch.Tensor, brightness: torch.Tensor, contrast: torch.Tensor, saturation: torch.Tensor
) -> None:
    """Change brightness, contrast and saturation in place, in this order, as torchvision defines them.

    The three are one affine map, so it is applied at once and clamped at its end only. In place, for on a
    CPU fresh memory costs more time here than the arithmetic.
    """
    red, green, blue = views.unbind(dim=1)
    grey = (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).unsqueeze(1)
    mean = grey.mean(dim=(2, 3), keepdim=True)  # (batch, 1, 1, 1)
    gain = brightness * contrast
    shift = grey.mul_(gain * (1 - saturation)).add_(mean * (brightness * (1 - contrast)))
    views.mul_(gain * saturation).add_(shift).clamp_(0, 1)


def _uniform(views: int, pictures: int, columns: int, seed: int) -> NDArray[np.float64]:
    """Draw from [0, 1) by counter: (columns, views, pictures).

    A hash of the place (SplitMix64's finaliser; Steele, Lea, Flood 2014) instead of a stream, for a stream's
    draws would depend on how many went before and on numpy's version.
    """
    state = np.full((1, 1, 1), seed, dtype=np.uint64)
    for axis, size in enumerate((columns, views, pictures)):
        place = np.arange(size, dtype=np.uint64).reshape([-1 if axis == a else 1 for a in range(3)])
        state = _mix(state + (place + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    return (state >> np.uint64(11)) / 2.0**53


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
