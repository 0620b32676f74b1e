import contextlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pictures_on_disk import encoded
from PIL import Image

from hkbench.data.decode import BadPictureError, decode

LEFT_RED = np.zeros((20, 40, 3), dtype=np.uint8)
LEFT_RED[:, :20, 0] = 255


def saved(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, file_format, **options)
    return content.getvalue()


def one_colour(mode: str, colour: Any, file_format: str = "PNG", **options: Any) -> list[int]:
    pixels = decode(saved(Image.new(mode, (12, 12), colour), file_format, **options), 8)
    assert pixels.shape == (3, 8, 8)
    assert pixels.dtype == np.uint8
    return pixels[:, 4, 4].tolist()


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_format_gives_its_colour(file_format: str) -> None:
    found = one_colour("RGB", (200, 100, 40), file_format)
    assert np.allclose(found, (200, 100, 40), atol=4)


def test_transparent_parts_are_white() -> None:
    assert one_colour("RGBA", (200, 0, 0, 0)) == [255, 255, 255]
    assert one_colour("RGBA", (200, 0, 0, 255)) == [200, 0, 0]
    assert one_colour("LA", (0, 0)) == [255, 255, 255]


def test_a_palette_is_looked_up_with_its_transparent_entry_on_white() -> None:
    image = Image.new("P", (12, 12), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert decode(saved(image), 8)[:, 4, 4].tolist() == [10, 200, 30]
    assert decode(saved(image, transparency=1), 8)[:, 4, 4].tolist() == [255, 255, 255]


@pytest.mark.parametrize(("mode", "file_format"), [("I;16", "PNG"), ("I;16", "TIFF"), ("I", "TIFF")])
def test_sixteen_bits_become_eight(mode: str, file_format: str) -> None:
    assert one_colour(mode, 65_535, file_format) == [255, 255, 255]
    assert one_colour(mode, 0x8000, file_format) == [128, 128, 128]


def test_grey_bilevel_and_cmyk_become_rgb() -> None:
    assert one_colour("L", 77) == [77, 77, 77]
    assert one_colour("1", 1) == [255, 255, 255]
    assert np.allclose(one_colour("CMYK", (0, 255, 255, 0), "JPEG"), (255, 0, 0), atol=6)


@pytest.mark.parametrize(("orientation", "red"), [(1, "left"), (3, "right"), (6, "top"), (8, "bottom")])
def test_pictures_are_turned_as_their_exif_says(orientation: int, red: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(saved(Image.fromarray(LEFT_RED), "JPEG", exif=exif, quality=95), 16)[0]
    side = {"left": pixels[:, 0], "right": pixels[:, -1], "top": pixels[0], "bottom": pixels[-1]}
    assert side[red].min() > 200


def test_the_centre_square_is_kept() -> None:
    wide = np.zeros((10, 50, 3), dtype=np.uint8)
    wide[:, 20:30] = 255
    assert decode(saved(Image.fromarray(wide)), 10).min() == 255
    assert decode(saved(Image.fromarray(wide.transpose(1, 0, 2))), 10).min() == 255


def test_a_large_jpeg_is_reduced_like_a_png() -> None:
    ramp = np.linspace(0, 255, 800).astype(np.uint8)
    image = Image.fromarray(np.broadcast_to(ramp[None, :, None], (600, 800, 3)).copy())
    apart = decode(saved(image, "JPEG", quality=95), 32).astype(int) - decode(saved(image), 32)
    assert np.abs(apart).max() <= 3


def test_small_pictures_are_enlarged() -> None:
    assert decode(encoded(1, (2, 3)), 32).shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a picture"),
        (b"<html>not found</html>", "not a picture"),
        (encoded(1, (90, 90))[:2_000], "damaged"),
        (encoded(1, (90, 90), "JPEG")[:1_500], "damaged"),
        (png_header(10_000, 10_001), "more than 100 megapixels"),
        (png_header(60_000, 60_000), "more than 100 megapixels"),
        (saved(Image.new("F", (9, 9), 0.5), "TIFF"), "range isn't known"),
    ],
)
def test_what_can_t_be_shown_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(BadPictureError, match=reason):
        decode(content, 8)


@given(
    file_format=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"]),
    place=st.floats(0, 1, exclude_max=True),
    patch=st.binary(min_size=1, max_size=12),
)
@example(file_format="TIFF", place=0.0, patch=b"II*\0\xff\xff\xff\xff")
def test_damaged_bytes_give_a_picture_or_a_reason(file_format: str, place: float, patch: bytes) -> None:
    content = bytearray(encoded(3, (16, 16), file_format))
    start = int(place * len(content))
    content[start : start + len(patch)] = patch
    with contextlib.suppress(BadPictureError):
        assert decode(bytes(content), 8).shape == (3, 8, 8)
