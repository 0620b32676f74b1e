"""Teacher logits: what the teacher says of every view of the train part, made once and mapped."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from hkbench.config import cache_dir
from hkbench.data.augment import ViewTable, apply_views
from hkbench.data.splits import Split
from hkbench.data.store import PictureStore
from hkbench.store.atomic import replacing
from hkbench.training.teacher import Teacher

log = logging.getLogger(__name__)

BATCH = 128
Advance = Callable[[int, int], None]


def logits_path(teacher: Teacher, store: PictureStore, split: Split, views: ViewTable) -> Path:
    """Return where these logits are kept: the hash of teacher, pictures, train part and views names them."""
    described = json.dumps([teacher.record.sha256, store.key, split.hash, views.key])
    return cache_dir() / "logits" / f"{hashlib.sha256(described.encode()).hexdigest()[:24]}.npy"


def teacher_logits(
    teacher: Teacher,
    store: PictureStore,
    split: Split,
    views: ViewTable,
    *,
    device: torch.device,
    advance: Advance | None = None,
) -> Path:
    """Return the file of the teacher's logits, float16 (views, train, classes); made if it isn't there.

    The teacher sees the very views that students see, at its own picture size. Two processes that ask for
    the same logits at once make them once; a file of another shape is made again.
    """
    path = logits_path(teacher, store, split, views)
    shape = (views.parameters.shape[0], len(split.train), len(store.classes))
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not _is_whole(path, shape):
            found = _run_teacher(teacher, store, split, views, shape, device, advance)
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, found)
    return path


def open_logits(path: Path) -> NDArray[np.float16]:
    """Map teacher logits, float16 (views, train, classes), without reading them."""
    mapped: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return mapped


def _is_whole(path: Path, shape: tuple[int, ...]) -> bool:
    if not path.exists():
        return False
    try:
        found = open_logits(path).shape
    except (ValueError, OSError) as error:
        log.warning("%s is damaged and is made again: %s", path, error)
        return False
    return found == shape


def _run_teacher(
    teacher: Teacher,
    store: PictureStore,
    split: Split,
    views: ViewTable,
    shape: tuple[int, ...],
    device: torch.device,
    advance: Advance | None,
) -> NDArray[np.float16]:
    network = teacher.network().to(device).to(memory_format=torch.channels_last)
    found = np.empty(shape, dtype=np.float16)
    total = shape[0] * shape[1]
    with torch.inference_mode():
        for view in range(shape[0]):
            for start in range(0, shape[1], BATCH):
                rows = split.train[start : start + BATCH]
                pictures = torch.from_numpy(store.pictures[rows]).to(device)
                parameters = torch.from_numpy(views.parameters[view, start : start + BATCH]).to(device)
                inputs = apply_views(pictures, parameters).contiguous(memory_format=torch.channels_last)
                found[view, start : start + BATCH] = network(inputs).float().cpu().numpy()
                if advance is not None:
                    advance(view * shape[1] + start + len(rows), total)
    return found
