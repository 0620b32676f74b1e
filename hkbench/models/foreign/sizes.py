"""The least picture edge that a foreign network takes, found by trying without computing anything."""

from collections.abc import Callable

import torch
from torch import nn

from hkbench.errors import UsageError

SIZES = (16, 24, 32, 40, 48, 56, 64, 75, 80, 96, 112, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512)
"""Picture edges in pixels that are tried."""
BATCH = 2
REFUSALS = (RuntimeError, ValueError, AssertionError, TypeError, IndexError, ZeroDivisionError)
"""What a network raises for pictures that it can't take, or its builder for a size it can't be built for."""


def takes(network: nn.Module, size: int) -> bool:
    """Return whether a network on the device "meta" can be trained on pictures of `size` pixels."""
    pictures = torch.empty(BATCH, 3, size, size, device="meta")
    try:
        features = network.train()(pictures)
    except REFUSALS:
        return False
    return bool(features.ndim == 2 and len(features) == BATCH)


def smallest(name: str, fits: Callable[[int], bool], image_size: int, usual: int) -> int:
    """Return the least picture edge that a network takes: above `image_size` if it doesn't take just that.

    Args:
        name: the network's name, for errors.
        fits: says whether the network takes pictures of a size.
        image_size: what the network is wanted for.
        usual: the size that it was made for; tried beside `SIZES`.

    Raises:
        UsageError: it takes none of the sizes.
    """
    sizes = sorted({*SIZES, usual})
    if fits(image_size):
        return next((size for size in sizes if size < image_size and fits(size)), image_size)
    found = next((size for size in sizes if size > image_size and fits(size)), None)
    if found is None:
        raise UsageError(f"{name} takes no pictures of {image_size} px and none of {sizes[-1]} or less.")
    return found


def refuse_below(name: str, least: int, image_size: int) -> None:
    """Refuse to build a network for pictures that it can't take.

    Raises:
        UsageError: `image_size` is below `least`, what `smallest` found.
    """
    if image_size < least:
        raise UsageError(f"{name} takes pictures of at least {least} px, found image_size {image_size}.")
