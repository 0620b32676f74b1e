"""Logits of a network without augmentation, batch by batch: of pictures, or of frozen stages' features.

Both call `between`, where one is given, before each batch.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hkbench.data.render import plain
from hkbench.models.classifier import Classifier

EVALUATION_BATCH = 256
Between = Callable[[], None]


def network_logits(
    network: nn.Module,
    pictures: NDArray[np.uint8],
    rows: NDArray[np.int64],
    device: torch.device,
    between: Between | None = None,
) -> NDArray[np.float32]:
    """Return the logits, (rows, classes), of some of `pictures`, uint8 (pictures, 3, size, size)."""
    network.eval()

    def answer(chosen: slice) -> Tensor:
        inputs = plain(torch.from_numpy(pictures[rows[chosen]]).to(device))
        logits: Tensor = network(inputs.contiguous(memory_format=torch.channels_last))
        return logits

    return _in_batches(answer, len(rows), between)


def feature_logits(
    network: Classifier,
    features: NDArray[np.float16],
    device: torch.device,
    between: Between | None = None,
) -> NDArray[np.float32]:
    """Return the logits, (rows, classes), of what the frozen stages gave, (rows, h, w, channels)."""
    network.eval()

    def answer(chosen: slice) -> Tensor:
        there = torch.from_numpy(features[chosen].copy()).to(device)  # a copy, for a mapped file is read-only
        return network.logits_from(there.permute(0, 3, 1, 2).float())

    return _in_batches(answer, len(features), between)


def _in_batches(answer: Callable[[slice], Tensor], rows: int, between: Between | None) -> NDArray[np.float32]:
    found = []
    with torch.inference_mode():
        for start in range(0, rows, EVALUATION_BATCH):
            if between is not None:
                between()
            found.append(answer(slice(start, start + EVALUATION_BATCH)).float().cpu().numpy())
    return np.concatenate(found)
