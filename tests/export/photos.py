"""Real pictures, for an export is compared with torch on what it will see."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images


def photos(count: int, size: int) -> NDArray[np.uint8]:
    """Return different crops of two photographs: uint8 (count, 3, size, size)."""
    images = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    crops = []
    for number in range(count):
        left, top = 7 * number % 400, 5 * number % 200
        crop = images[number % 2].crop((left, top, left + 220, top + 220)).resize((size, size))
        crops.append(np.asarray(crop).transpose(2, 0, 1))
    return np.stack(crops)
