"""What the tests of this room share: pictures whose class is their brightest channel, and their split."""

import io

import numpy as np
from PIL import Image

from hkbench.data.build import build_store
from hkbench.data.source import Source
from hkbench.data.splits import Split

CLASSES = ("a", "b", "c")


def bright_pictures(folder, count=90, size=32):
    """Return a store of noise in which one channel, the class, is brighter."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % len(CLASSES)
    pictures = rng.integers(0, 90, (count, 3, size, size), dtype=np.uint8)
    pictures[np.arange(count), labels] += 150
    source = Source(
        name="bright",
        classes=CLASSES,
        ids=tuple(map(str, range(count))),
        labels=labels,
        groups=None,
        fingerprint="fingerprint",
        read=lambda index: _png(pictures[index]),
    )
    return build_store(source, size, cache=folder, workers=1)


def _png(picture):
    content = io.BytesIO()
    Image.fromarray(picture.transpose(1, 2, 0)).save(content, "PNG")
    return content.getvalue()


def three_parts(count=90):
    """Return a split with 66 pictures to train on, 15 to validate and the rest to test."""
    parts = np.split(np.arange(count), [count - 24, count - 9])
    return Split(scheme="random", seed=0, hash="split", train=parts[0], validation=parts[1], test=parts[2])
