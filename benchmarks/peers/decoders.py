"""A store of pictures as a user would write it: Pillow in a pool, torchvision in a DataLoader."""

import io
import multiprocessing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_webp
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from hkbench.config import usable_cores
from hkbench.data.source import Source

CHUNK = 64


def pillow(source: Source, size: int, folder: Path) -> NDArray[np.uint8]:
    """Decode and scale in `multiprocessing.Pool`, into one `.npy` file: uint8 (N, 3, size, size)."""
    pictures = np.empty((len(source.ids), 3, size, size), dtype=np.uint8)
    tasks = ((source.read(index), size) for index in range(len(source.ids)))
    with multiprocessing.Pool(usable_cores()) as pool:
        for index, pixels in enumerate(pool.imap(_with_pillow, tasks, chunksize=CHUNK)):
            pictures[index] = pixels.transpose(2, 0, 1)
    return _saved(pictures, folder)


def _with_pillow(task: tuple[bytes, int]) -> NDArray[np.uint8]:
    content, size = task
    image = Image.open(io.BytesIO(content)).convert("RGB")
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


class EncodedPictures(Dataset[torch.Tensor]):
    """The pictures of a source, decoded and scaled by torchvision."""

    def __init__(self, source: Source, size: int) -> None:
        self.read, self.count, self.size = source.read, len(source.ids), size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        content = torch.frombuffer(bytearray(self.read(index)), dtype=torch.uint8)
        return functional.resize(
            decode_webp(content, mode=ImageReadMode.RGB),
            [self.size, self.size],
            interpolation=InterpolationMode.BICUBIC,
            antialias=True,
        )


def torchvision(source: Source, size: int, folder: Path) -> NDArray[np.uint8]:
    """Decode and scale in the workers of a DataLoader, one thread each, into one `.npy` file."""
    pictures = np.empty((len(source.ids), 3, size, size), dtype=np.uint8)
    loader = DataLoader(EncodedPictures(source, size), batch_size=CHUNK, num_workers=usable_cores())
    start = 0
    for batch in loader:
        pictures[start : start + len(batch)] = batch.numpy()
        start += len(batch)
    return _saved(pictures, folder)


def _saved(pictures: NDArray[np.uint8], folder: Path) -> NDArray[np.uint8]:
    np.save(folder / "pictures.npy", pictures)
    found: NDArray[np.uint8] = np.load(folder / "pictures.npy", mmap_mode="r")
    return found
