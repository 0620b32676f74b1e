"""The random parameters of one picture, drawn from (seed, group, view index) and nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

Range = tuple[float, float]
Colour = tuple[float, float, float]
"""Red, green and blue, each from 0 to 1."""

FULL_CIRCLE_DEG: Range = (-180.0, 180.0)
ELEVATION_DEG: Range = (0.0, 45.0)
ROLL_DEG: Range = (-8.0, 8.0)
# The longer side of the object's outline, as a part of the picture's side: a zoom of 1 to 1.5.
FILL: Range = (0.62, 0.93)


@dataclass(frozen=True, kw_only=True)
class ViewRange:
    """Where the camera may stand: angles in degrees; azimuth 0 looks at the model's front."""

    azimuth_deg: Range = FULL_CIRCLE_DEG
    elevation_deg: Range = ELEVATION_DEG


@dataclass(frozen=True, kw_only=True)
class View:
    """Camera, light and background of one picture."""

    azimuth_deg: float
    elevation_deg: float
    roll_deg: float
    fill: float
    shift_x: float
    """Where in the free space the object stands: -1 at the left edge, 1 at the right."""
    shift_y: float
    key_intensity: float
    key_warmth: float
    """0 is blue, 1 is orange."""
    background_top: Colour
    background_bottom: Colour


def view_rng(seed: int, group: str, view_index: int) -> np.random.Generator:
    """A generator of its own for each picture, so that any subset can be rendered again."""
    digest = hashlib.sha256(f"{seed}|{group}|{view_index}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def _within(bounds: Range, unit: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * unit


def _pale(lightness: float, tint: np.ndarray, strength: float) -> Colour:
    red, green, blue = (lightness * (1 - strength * (1 - channel)) for channel in tint)
    return (float(red), float(green), float(blue))


def draw_view(seed: int, group: str, view_index: int, allowed: ViewRange) -> View:
    """The view with that index; `allowed` bounds its angles and changes nothing else."""
    rng = view_rng(seed, group, view_index)
    unit = rng.random(9)
    tint = rng.random(3)
    lightness = _within((0.86, 1.0), unit[7])
    # A third of the backgrounds stay neutral, as most shops' do.
    strength = max(0.0, float(unit[8]) - 0.33) * 0.15
    return View(
        azimuth_deg=_within(allowed.azimuth_deg, unit[0]),
        elevation_deg=_within(allowed.elevation_deg, unit[1]),
        roll_deg=_within(ROLL_DEG, unit[2]),
        fill=_within(FILL, unit[3]),
        shift_x=_within((-0.5, 0.5), unit[4]),
        shift_y=_within((-0.5, 0.5), unit[5]),
        key_intensity=_within((0.88, 1.08), unit[6]),
        key_warmth=_within((0.45, 0.6), rng.random()),
        background_top=_pale(lightness, tint, strength),
        background_bottom=_pale(lightness * _within((0.9, 1.0), rng.random()), tint, strength),
    )
