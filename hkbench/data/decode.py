"""From the bytes of any picture to a square of RGB pixels; what can't be shown is refused with a reason."""

import io
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from hkbench.errors import UsageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""Tried in this order. Pillow's other readers stay shut, for pictures may come from strangers."""
MAX_PIXELS = 100_000_000
DRAFT_GAP = 2.0
"""A JPEG may be decoded at a fraction of its size, as long as this many times the target's side is left."""
DECODER = (
    f"antialiased bicubic of torch, JPEG gap {DRAFT_GAP}, centre crop to whole pixels, EXIF turned, "
    f"white behind, at most {MAX_PIXELS} px, 2"
)
"""Names all that the pixels depend on; a change here makes new stores."""


class BadPictureError(UsageError):
    """A picture that can't be used; the message is the reason."""


Pixels = NDArray[np.uint8]
Decoded = Pixels | str
"""A picture, uint8 (3, side, side) in any order of memory, or the reason why there is none."""


def decode(content: bytes, side: int) -> Pixels:
    """Decode a picture and scale its largest centred square to `side` pixels: uint8 (3, side, side).

    Turned as its EXIF says, transparent parts on white, 16-bit grey to 8 bits, the first frame of several.

    Raises:
        BadPictureError: not a picture, over 100 megapixels, damaged or cut off, or without a range for
            its values.
    """
    with no_warnings():
        return np.ascontiguousarray(_scaled(_upright(content, side, {}), side))


def decode_many(
    read: Callable[[int], bytes], indices: range, sides: Sequence[int]
) -> Iterator[tuple[Decoded, ...]]:
    """Read some pictures once and decode each for every side; in place of a bad one stands its reason.

    The pixels are those of `decode`. Warnings of damaged metadata are the caller's: see `no_warnings`.
    """
    for index in indices:
        try:
            content = read(index)
        except (FileNotFoundError, PermissionError) as error:  # another error may be gone the next time
            yield (f"can't be read: {error.strerror or error}",) * len(sides)
            continue
        decodings: dict[object, Pixels] = {}
        yield tuple(_decoded(content, side, decodings) for side in sides)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Keep Pillow quiet, which warns below our own limit and of metadata that we don't use.

    Python keeps its filters for all threads: enter this in one thread, around the work of the others.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


_TOO_LARGE = f"more than {MAX_PIXELS // 1_000_000} megapixels"


def _decoded(content: bytes, side: int, decodings: dict[object, Pixels]) -> Decoded:
    try:
        return _scaled(_upright(content, side, decodings), side)
    except BadPictureError as error:
        return str(error)


def _upright(content: bytes, side: int, decodings: dict[object, Pixels]) -> Pixels:
    """Decode as far as `side` needs: uint8 (height, width, 3).

    `decodings` keeps what was decoded for another side. A JPEG's scale depends on the side, so that one is
    shared only where the scale is the same; then the pixels don't depend on which sides are made together.
    """
    try:
        if _is_plain_webp(content) and "torchvision" in sys.modules:
            return _plain_webp(content, decodings)
        return _any_format(content, side, decodings)
    except (BadPictureError, MemoryError):  # want of memory says nothing about the picture
        raise
    except Image.DecompressionBombError as error:
        raise BadPictureError(_TOO_LARGE) from error
    except UnidentifiedImageError as error:
        raise BadPictureError(f"not a picture of these formats: {', '.join(FORMATS)}") from error
    # Damaged bytes make Pillow raise nearly anything; the type and message are kept as the reason.
    except Exception as error:
        raise BadPictureError(f"damaged: {type(error).__name__}: {error}") from error


def _any_format(content: bytes, side: int, decodings: dict[object, Pixels]) -> Pixels:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise BadPictureError(_TOO_LARGE)
        enough = side * DRAFT_GAP / min(width, height)
        image.draft(None, (round(width * enough), round(height * enough)))
        scale = image.decoderconfig  # a JPEG's; nothing for others
        if scale not in decodings:
            ImageOps.exif_transpose(image, in_place=True)
            decodings[scale] = np.array(_to_rgb(image))
    return decodings[scale]


def _is_plain_webp(content: bytes) -> bool:
    """Whether this is WebP of the simple kind: lossy, one frame, no alpha, no EXIF, within the limit."""
    if content[:4] != b"RIFF" or content[8:16] != b"WEBPVP8 ":
        return False
    width, height = (int.from_bytes(content[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    return width * height <= MAX_PIXELS


def _plain_webp(content: bytes, decodings: dict[object, Pixels]) -> Pixels:
    """Decode with torchvision: the pixels of Pillow, which are the same library's, in less time.

    Used only where torchvision is loaded already; loading it takes longer than it saves.
    """
    if () not in decodings:
        import torch
        from torchvision.io import ImageReadMode, decode_webp

        try:
            decoded = decode_webp(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.RGB)
        except RuntimeError:
            return _any_format(content, 1, decodings)  # Pillow knows the reason
        decodings[()] = decoded.numpy().transpose(1, 2, 0)
    return decodings[()]


def _scaled(pixels: Pixels, side: int) -> Pixels:
    """Scale the centred square of (height, width, 3) to (3, side, side).

    By torch, four times as fast as Pillow: the same filter, with weights of 16 bits.
    """
    import torch

    height, width, _ = pixels.shape
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = np.ascontiguousarray(pixels[top : top + short, left : left + short])
    # Turned by NumPy, not by torch, whose every call lets go of the interpreter and must wait to get it back.
    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(square.transpose(2, 0, 1)[None]), size=(side, side), mode="bicubic", antialias=True
    )
    found: Pixels = scaled.numpy()[0]
    return found


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
