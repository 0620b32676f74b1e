"""Corrections for what the plain rules show badly, each with its reason.

Found by looking at contact sheets of all models. Angles are in degrees; azimuth 0 looks at a
model's front.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .catalogue import Model
from .views import ELEVATION_DEG, FULL_CIRCLE_DEG, Range, ViewRange


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Narrower angles for the camera; None leaves an angle to the next rule."""

    azimuth_deg: Range | None = None
    elevation_deg: Range | None = None
    reason: str


_FRONT: Range = (-75.0, 75.0)
_LOW: Range = (0.0, 30.0)
_BACK_IS_BLANK = Limit(azimuth_deg=_FRONT, reason="its back is a blank or open panel")
_ON_A_WALL = Limit(azimuth_deg=_FRONT, reason="stands at a wall; nobody sees its back")
_SMALL_ON_A_WALL = Limit(
    azimuth_deg=(-60, 60), elevation_deg=_LOW, reason="set into a wall; its back is a blank box"
)
_UPRIGHT_PANEL = Limit(
    azimuth_deg=(-60, 60), elevation_deg=_LOW, reason="a panel that people see from eye level"
)

CLASS_LIMITS: dict[str, Limit] = {
    "bedside table": _BACK_IS_BLANK,
    "bookcase": _BACK_IS_BLANK,
    "ceiling light": Limit(elevation_deg=ELEVATION_DEG, reason="low tubes, not lying goods"),
    "clock": Limit(azimuth_deg=(-60, 60), reason="only its face shows a clock"),
    "door": _UPRIGHT_PANEL,
    "fridge": _BACK_IS_BLANK,
    "garage door": _UPRIGHT_PANEL,
    "kitchen cabinet": _BACK_IS_BLANK,
    "light switch": _SMALL_ON_A_WALL,
    "plate": Limit(elevation_deg=(20, 65), reason="a thin line when seen from its edge"),
    "power socket": _SMALL_ON_A_WALL,
    "radiator": _ON_A_WALL,
    "stove": _BACK_IS_BLANK,
    "television": _BACK_IS_BLANK,
    "wardrobe": _BACK_IS_BLANK,
    "washbasin": _ON_A_WALL,
    "washing machine": _BACK_IS_BLANK,
    "water heater": _ON_A_WALL,
    "window": _UPRIGHT_PANEL,
}

MODEL_LIMITS: dict[str, Limit] = {
    "BlendSwap-CC-BY/microwave": _BACK_IS_BLANK,
    "Scopia/stereo_amplifier": _BACK_IS_BLANK,
}

# A model is a lying sheet or an upright panel when it is this thin against its longest side.
THIN = 0.13
_LYING_SHEET = Limit(elevation_deg=(25, 65), reason="a thin line when seen from its edge")
_PANEL_ALONG_X = Limit(azimuth_deg=(-60, 60), reason="a thin line when seen from its edge")
_PANEL_ALONG_Z = Limit(azimuth_deg=(30, 150), reason="a thin line when seen from its edge")


def shape_limit(extents: np.ndarray) -> Limit | None:
    """The limit that follows from a model's width, height and depth: (3,), any unit."""
    width, height, depth = (float(side) for side in extents / extents.max())
    if height < THIN:
        return _LYING_SHEET
    # A rod such as a broom is thin both ways and looks the same from all sides.
    if depth < THIN and width > 2 * depth:
        return _PANEL_ALONG_X
    if width < THIN and depth > 2 * width:
        return _PANEL_ALONG_Z
    return None


def allowed_views(class_name: str, group: str, extents: np.ndarray) -> ViewRange:
    """The camera's freedom for one model: its own limits, then its class's, then its shape's."""
    limits = [MODEL_LIMITS.get(group), CLASS_LIMITS.get(class_name), shape_limit(extents)]
    azimuths = [limit.azimuth_deg for limit in limits if limit and limit.azimuth_deg]
    elevations = [limit.elevation_deg for limit in limits if limit and limit.elevation_deg]
    return ViewRange(
        azimuth_deg=[*azimuths, FULL_CIRCLE_DEG][0],
        elevation_deg=[*elevations, ELEVATION_DEG][0],
    )


MOVED_MODELS: dict[str, tuple[str, str]] = {
    "BlendSwap-CC-0/lamp2": ("ceiling light", "a chandelier"),
    "BlendSwap-CC-0/motorbike": ("toy", "a playground rider on a spring"),
    "BlendSwap-CC-0/osakaChair": ("chair", "an indoor chair"),
    "BlendSwap-CC-0/seesaw": ("toy", "not a saw"),
    "BlendSwap-CC-0/tableFan": ("small appliance", "a fan, not a table"),
    "BlendSwap-CC-0/wheelbarrow": ("hand tool", "garden equipment, nothing to ride"),
    "BlendSwap-CC-BY/boiler": ("small appliance", "a kettle"),
    "BlendSwap-CC-BY/tableTennisBat": ("ball game", "a bat, not a table"),
    "BlendSwap-CC-BY/xylophone": ("toy", "not a phone"),
    "Scopia/chaussette": ("clothes", "a sock; its English name says socket"),
    "Scopia/islandBath": ("bathtub", "a free-standing bath"),
    "Scopia/playstation4": ("computer", "a games console"),
    "Scopia/ps4-joystick": ("computer", "a games controller"),
    "Scopia/tablet": ("computer", "a tablet computer"),
    "Scopia/window_2x1_medium_with_large_pane": ("window", "a pane, not a pan"),
}
"""Models that `models.csv` files under a class that they do not show: the right one, and why."""

EXCLUDED_MODELS: dict[str, str] = {
    "Scopia/escalator": "no garage door, and no class of its own",
    "Scopia/japanese_style_screen": "a folding screen, and no class of its own",
}
"""Models that show none of the classes, with the reason."""


def corrected(models: list[Model]) -> list[Model]:
    """The models without the excluded ones, each in its right class; sorted as before."""
    kept = [
        replace(model, class_name=MOVED_MODELS.get(model.group, (model.class_name,))[0])
        for model in models
        if model.group not in EXCLUDED_MODELS
    ]
    return sorted(kept, key=lambda model: (model.class_name, model.group))
