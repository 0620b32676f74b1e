"""From a drawn model to an encoded picture: reduce, lay on a background, refuse, encode."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from .views import View

SUPERSAMPLING = 3
# A channel must differ by this much (0 to 1) for a pixel to count as seen against the background.
SEEN_DIFFERENCE = 0.06
SMALLEST_SEEN_PART = 0.012
SMALLEST_SEEN_SHARE = 0.25
BRIGHTENING_EXPONENT = 0.8


def reduce(drawn: np.ndarray, factor: int = SUPERSAMPLING) -> np.ndarray:
    """Average squares of `factor` pixels: (h, w, c) to (h / factor, w / factor, c)."""
    height, width, channels = drawn.shape
    squares = drawn.reshape(height // factor, factor, width // factor, factor, channels)
    return np.asarray(squares.mean(axis=(1, 3)))


def brighten(reduced: np.ndarray) -> np.ndarray:
    """Lift the shadows of (h, w, 4) colours times alpha; black goods show their shape."""
    alpha = reduced[..., 3:]
    colours = np.clip(reduced[..., :3] / np.maximum(alpha, 1e-6), 0, 1)
    return np.concatenate([colours**BRIGHTENING_EXPONENT * alpha, alpha], axis=-1)


def background(view: View, size_px: int) -> np.ndarray:
    """A soft vertical gradient: (size_px, size_px, 3) in 0 to 1."""
    share = np.linspace(0, 1, size_px, dtype=np.float32)[:, None]
    top = np.asarray(view.background_top, dtype=np.float32)
    bottom = np.asarray(view.background_bottom, dtype=np.float32)
    rows = (1 - share) * top + share * bottom  # (height, 3)
    return np.repeat(rows[:, None, :], size_px, axis=1)


def compose(reduced: np.ndarray, view: View) -> np.ndarray:
    """Lay (size, size, 4) colours times alpha on the view's background: (size, size, 3)."""
    behind = background(view, reduced.shape[0])
    return np.asarray(np.clip(reduced[..., :3] + (1 - reduced[..., 3:]) * behind, 0, 1))


def refusal(reduced: np.ndarray, view: View) -> str | None:
    """Why nobody could see the object in this picture, or None when it can be seen."""
    outline = reduced[..., 3] > 0.1
    if not outline.any():
        return "nothing drawn"
    difference = np.abs(compose(reduced, view) - background(view, reduced.shape[0])).max(axis=-1)
    seen = difference > SEEN_DIFFERENCE
    if seen.mean() < SMALLEST_SEEN_PART:
        return f"only {100 * seen.mean():.1f} % of the picture differs from the background"
    share = (seen & outline).sum() / outline.sum()
    if share < SMALLEST_SEEN_SHARE:
        return f"only {100 * share:.0f} % of the object differs from the background"
    return None


def encode(picture: np.ndarray, quality: int) -> bytes:
    """WebP bytes of (h, w, 3) in 0 to 1."""
    image = Image.fromarray((picture * 255 + 0.5).astype(np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue()
