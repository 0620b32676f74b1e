"""Features of frozen stages: what these make of every view, computed once; only the rest is trained."""

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from numpy.typing import NDArray

from hkbench.data.augment import ViewTable
from hkbench.data.render import plain
from hkbench.data.splits import Split
from hkbench.data.store import PictureStore
from hkbench.models.classifier import Classifier
from hkbench.store.blocks import Advance
from hkbench.training.ahead import ahead_path, fits_ahead, make_ahead, open_ahead, render

BATCH = 128
LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, kw_only=True)
class Features:
    """Mapped features: float16 (views, train, h, w, channels) and (validation, h, w, channels)."""

    train: NDArray[np.float16]
    validation: NDArray[np.float16]


def frozen_features(
    network: Classifier,
    store: PictureStore,
    split: Split,
    table: ViewTable,
    *,
    device: torch.device,
    workers: int,
    advance: Advance | None = None,
) -> Features | None:
    """Return the features of the network's frozen stages, made if they aren't there; None if they don't fit.

    The key holds the frozen weights, so all trials with the same body share them.

    Args:
        network: at least one of its stages is frozen; moved to `device`.
        store: pictures at the training's size.
        split: its train part in all views, its validation part as it is.
        table: the views.
        device: where to compute.
        workers: how many threads compute at once, one torch thread each.
        advance: called with (rows done, rows in all) of the train part.
    """
    network = network.to(device).eval()
    frozen = (
        network.kept_stages,
        _state_hash(network),
        timm.__version__,
        torchvision.__version__,
        device.type,
    )
    path = ahead_path("features", *frozen, store.key, split.hash, table.key)
    views, train = table.parameters.shape[:2]
    shape = feature_shape(network, store.size, device)
    if not path.exists() and not fits_ahead(
        (views * train + len(split.validation)) * int(np.prod(shape)) * 2
    ):
        return None

    def of_views(views: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[Any]:
        return _run(network, render(store, split, table, views, positions, device), device)

    def as_they_are(_: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[Any]:
        return _run(network, torch.from_numpy(store.pictures[split.validation[positions]]), device)

    validation = path.with_stem(f"{path.stem}-validation")
    make = partial(make_ahead, dtype="float16", workers=workers, rows_a_block=BATCH)
    make(path, (views, train, *shape), compute=of_views, advance=advance)
    make(validation, (1, len(split.validation), *shape), compute=as_they_are)
    return Features(train=open_ahead(path, views), validation=open_ahead(validation, 1)[0])


def _run(network: Classifier, pictures: torch.Tensor, device: torch.device) -> NDArray[Any]:
    with torch.inference_mode():
        inputs = plain(pictures.to(device)).contiguous(memory_format=torch.channels_last)
        features = network.frozen_features(inputs).clamp(-LARGEST, LARGEST).half()
    return features.permute(0, 2, 3, 1).cpu().numpy()


def feature_shape(network: Classifier, size: int, device: torch.device) -> tuple[int, int, int]:
    """Return (height, width, channels) of what the kept stages make of pictures of `size` pixels."""
    with torch.inference_mode():
        _, channels, height, width = network.frozen_features(
            torch.zeros(1, 3, size, size, device=device)
        ).shape
    return height, width, channels


def _state_hash(network: Classifier) -> str:
    digest = hashlib.sha256(str(network.body).encode())  # layers without weights count too
    for name, tensor in network.frozen_state().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
