"""Views: augmented versions of pictures, each fully described by a row of stored parameters.

Student and teacher see the same pixels because both render the same stored row.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

COLUMNS = (
    "centre_x", "centre_y", "half_width", "half_height", "rotation_rad", "mirror",
    "brightness", "contrast", "saturation",
    "erase_x", "erase_y", "erase_half_width", "erase_half_height", "share",
)  # fmt: skip
"""What a row of parameters holds, in order.

The crop's centre and half sides are in units of half a picture's side, with (0, 0) the picture's centre, so
a row means the same view at every size. `mirror` is −1 or 1; the colour columns are factors. The erased
rectangle is in the same units, of the view's own sides; a half width of 0 erases nothing. `share` is the
weight of the picture itself in a mix, 1 where nothing is mixed in.
"""
IDENTITY = (0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
"""The row that changes nothing."""
ERASED_AREA = (0.02, 0.33)
ERASED_ASPECT = (0.3, 3.3)
"""Share of the view and ratio of the sides of an erased rectangle; arXiv 1708.04896, section 4.2."""
DRAWS = 14
"""How many numbers a row takes. Those of mixup come after, for there may be more of them."""


class ViewPolicy(BaseModel):
    """How far views stray from their pictures.

    `min_scale`: smallest area of the crop. `max_aspect`: largest ratio of its sides. `flip`: probability of
    a mirror image. `rotation_deg`: largest turn to either side. `brightness`, `contrast`, `saturation`:
    factors are drawn from 1 ± this. `erasing`: probability that a rectangle is erased (arXiv 1708.04896).
    `mixup`: a second picture is mixed in with a weight drawn from Beta(this, this) (arXiv 1710.09412); 0 is
    off.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    min_scale: float = Field(default=0.6, ge=1e-3, le=1)
    max_aspect: float = Field(default=4 / 3, ge=1, le=10)
    flip: float = Field(default=0.5, ge=0, le=1)
    rotation_deg: float = Field(default=10.0, ge=0, le=180)
    brightness: float = Field(default=0.2, ge=0, le=1)
    contrast: float = Field(default=0.2, ge=0, le=1)
    saturation: float = Field(default=0.2, ge=0, le=1)
    erasing: float = Field(default=0.0, ge=0, le=1)
    mixup: float = Field(default=0.0, ge=0, le=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewTable:
    """The parameters of every view.

    Attributes:
        parameters: float16 (views, pictures, len(COLUMNS)).
        partners: int32 (views, pictures): the position of the picture that is mixed in; None without mixup.
        key: a hex hash of both.
    """

    parameters: NDArray[np.float16]
    partners: NDArray[np.int32] | None
    key: str


def sample_views(views: int, pictures: int, seed: int, policy: ViewPolicy) -> ViewTable:
    """Draw the parameters of `views` views of each of `pictures` pictures.

    A row depends on (seed, view, picture, policy) only: more views or pictures leave the others as they are.
    A partner depends on the number of pictures too.
    """
    drawn = [
        _sample_view(view, pictures, seed, policy) for view in range(views)
    ]  # one by one: draws are large
    parameters = np.stack([rows for rows, _ in drawn])
    partners = None
    if policy.mixup > 0:
        partners = np.stack([(partner * pictures).astype(np.int32) for _, partner in drawn])
    return ViewTable(parameters=parameters, partners=partners, key=_hash(parameters, partners))


def _sample_view(
    view: int, pictures: int, seed: int, policy: ViewPolicy
) -> tuple[NDArray[np.float16], NDArray[np.float64]]:
    """Return the rows of one view, (pictures, columns), and a draw in [0, 1) for the partner of each."""
    draws = _uniform(view, pictures, range(DRAWS), seed)  # (columns, pictures)
    share = partner = np.ones(pictures)
    if policy.mixup > 0:
        share, partner = _mixup(view, pictures, seed, policy.mixup)
    columns = [*_affine_and_colour(draws[:9], policy), *_erasing(draws[9:], policy), share]
    return np.stack(columns, axis=-1).astype(np.float16), partner


Columns = list[NDArray[np.float64]]
"""Each (pictures,)."""


def _affine_and_colour(draws: NDArray[np.float64], policy: ViewPolicy) -> Columns:
    at_x, at_y, area, aspect, turn, mirror, *colour = draws
    area = policy.min_scale + (1 - policy.min_scale) * area
    stretch = np.exp(math.log(policy.max_aspect) * (aspect - 0.5))  # square root of the ratio of sides
    half_width = np.minimum(1.0, np.sqrt(area) * stretch)
    half_height = np.minimum(1.0, np.sqrt(area) / stretch)
    strengths = (policy.brightness, policy.contrast, policy.saturation)
    return [
        (2 * at_x - 1) * (1 - half_width),
        (2 * at_y - 1) * (1 - half_height),
        half_width,
        half_height,
        math.radians(policy.rotation_deg) * (2 * turn - 1),
        np.where(mirror < policy.flip, -1.0, 1.0),
        *(1 + strength * (2 * draw - 1) for strength, draw in zip(strengths, colour, strict=True)),
    ]


def _erasing(draws: NDArray[np.float64], policy: ViewPolicy) -> Columns:
    """Return centre and half sides of the rectangle, zeros where none is erased."""
    chance, area, aspect, at_x, at_y = draws
    area = ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * area
    log_aspect = math.log(ERASED_ASPECT[0]) + math.log(ERASED_ASPECT[1] / ERASED_ASPECT[0]) * aspect
    stretch = np.exp(log_aspect / 2)
    half_width = np.minimum(1.0, np.sqrt(area) * stretch)
    half_height = np.minimum(1.0, np.sqrt(area) / stretch)
    columns = ((2 * at_x - 1) * (1 - half_width), (2 * at_y - 1) * (1 - half_height), half_width, half_height)
    return [np.where(chance < policy.erasing, column, 0.0) for column in columns]


def _mixup(view: int, pictures: int, seed: int, alpha: float) -> Columns:
    """Return the picture's own share, at least a half, and a partner in [0, 1).

    Beta(α, α) by Jöhnk's method (1964): U^(1/α) / (U^(1/α) + V^(1/α)), drawn again while the sum is over 1.
    """
    (partner,) = _uniform(view, pictures, range(DRAWS, DRAWS + 1), seed)
    share = np.full(partner.shape, np.nan)
    first = DRAWS + 1
    while np.isnan(share).any():
        log_u, log_v = np.log(_uniform(view, pictures, range(first, first + 2), seed) + 2.0**-54) / alpha
        log_sum = np.logaddexp(log_u, log_v)
        share = np.where(np.isnan(share) & (log_sum <= 0), np.exp(log_u - log_sum), share)
        first += 2
    return [np.maximum(share, 1 - share), partner]


def _hash(parameters: NDArray[np.float16], partners: NDArray[np.int32] | None) -> str:
    digest = hashlib.sha256(repr(parameters.shape).encode() + parameters.tobytes())
    digest.update(b"" if partners is None else partners.tobytes())
    return digest.hexdigest()


def _uniform(view: int, pictures: int, columns: range, seed: int) -> NDArray[np.float64]:
    """Draw from [0, 1) by counter: (columns, pictures).

    A hash of the place (SplitMix64's finaliser; Steele, Lea, Flood 2014) instead of a stream, for a stream's
    draws would depend on how many went before and on numpy's version.
    """
    state = np.full((1, 1), seed, dtype=np.uint64)
    for places in (np.array(columns).reshape(-1, 1), np.array([[view]]), np.arange(pictures).reshape(1, -1)):
        state = _mix(state + (places.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    return (state >> np.uint64(11)) / 2.0**53


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
