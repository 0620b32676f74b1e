"""From the bytes of any picture to a square of RGB pixels; what can't be shown is refused with a reason."""

import io
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from hkbench.errors import UsageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""Tried in this order. Pillow's other readers stay shut, for pictures may come from strangers."""
MAX_PIXELS = 100_000_000
REDUCING_GAP = 2.0
"""A JPEG may be decoded at a fraction of its size, as long as this many times the target's side is left."""
DECODER = f"bicubic, gap {REDUCING_GAP}, centre crop, EXIF turned, white behind, at most {MAX_PIXELS} px, 1"
"""Names all that the pixels depend on; a change here makes new stores."""


class BadPictureError(UsageError):
    """A picture that can't be used; the message is the reason."""


Decoded = NDArray[np.uint8] | str
"""A picture, uint8 (3, side, side), or the reason why there is none."""


def decode(content: bytes, side: int) -> NDArray[np.uint8]:
    """Decode a picture and scale its largest centred square to `side` pixels: uint8 (3, side, side).

    Turned as its EXIF says, transparent parts on white, 16-bit grey to 8 bits, the first frame of several.

    Raises:
        BadPictureError: not a picture, over 100 megapixels, damaged or cut off, or without a range for
            its values.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns below our own limit, and of metadata that we don't use.
            warnings.simplefilter("ignore")
            return _square(io.BytesIO(content), side)
    except BadPictureError:
        raise
    except Image.DecompressionBombError as error:
        raise BadPictureError(_TOO_LARGE) from error
    except UnidentifiedImageError as error:
        raise BadPictureError(f"not a picture of these formats: {', '.join(FORMATS)}") from error
    # Damaged bytes make Pillow raise nearly anything; the type and message are kept as the reason.
    except Exception as error:
        raise BadPictureError(f"damaged: {type(error).__name__}: {error}") from error


def decode_many(read: Callable[[int], bytes], indices: range, side: int) -> list[Decoded]:
    """Read and decode some pictures; in place of a bad one stands its reason."""
    return [_decode_one(read, index, side) for index in indices]


_TOO_LARGE = f"more than {MAX_PIXELS // 1_000_000} megapixels"


def _decode_one(read: Callable[[int], bytes], index: int, side: int) -> Decoded:
    try:
        return decode(read(index), side)
    except BadPictureError as error:
        return str(error)
    except OSError as error:
        return f"can't be read: {error.strerror or error}"


def _square(file: io.BytesIO, side: int) -> NDArray[np.uint8]:
    with Image.open(file, formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise BadPictureError(_TOO_LARGE)
        enough = side * REDUCING_GAP / min(width, height)
        image.draft(None, (round(width * enough), round(height * enough)))
        ImageOps.exif_transpose(image, in_place=True)
        upright = _to_rgb(image)
    width, height = upright.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    scaled = upright.resize(
        (side, side),
        Image.Resampling.BICUBIC,
        box=(left, top, left + short, top + short),
        reducing_gap=REDUCING_GAP,
    )
    return np.ascontiguousarray(np.asarray(scaled).transpose(2, 0, 1))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise BadPictureError("floating-point pixels, whose range isn't known")
    if image.mode.startswith("I"):  # 16 bits, in a mode of their own or in one of 32 bits
        grey = np.asarray(image).clip(0, 65_535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    return image.convert("RGB")
