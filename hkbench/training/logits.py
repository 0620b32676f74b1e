"""Teacher logits: what the teacher says of every view of the train part, made once and mapped."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from hkbench.config import cache_dir, usable_cores
from hkbench.data.augment import ViewTable, apply_views
from hkbench.data.splits import Split
from hkbench.data.store import PictureStore
from hkbench.export.onnx import export_onnx
from hkbench.export.session import open_session
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
    answer = _on_cpu(teacher, store) if device.type == "cpu" else _on_device(teacher, device)
    found = np.empty(shape, dtype=np.float16)
    batches = [(view, start) for view in range(shape[0]) for start in range(0, shape[1], BATCH)]

    def run(batch: tuple[int, int]) -> int:
        view, start = batch
        rows = split.train[start : start + BATCH]
        pictures = torch.from_numpy(store.pictures[rows]).to(device)
        parameters = torch.from_numpy(views.parameters[view, start : start + BATCH]).to(device)
        found[view, start : start + len(rows)] = answer(apply_views(pictures, parameters))
        return len(rows)

    done = 0
    with _threads(1), ThreadPoolExecutor(usable_cores() if device.type == "cpu" else 1) as pool:
        for finished in pool.map(run, batches):
            done += finished
            if advance is not None:
                advance(done, shape[0] * shape[1])
    return found


Answer = Callable[[torch.Tensor], NDArray[np.float32]]
"""Views, float32 (batch, 3, size, size), → logits, float32 (batch, classes)."""


def _on_cpu(teacher: Teacher, store: PictureStore) -> Answer:
    """Return the teacher in ONNX Runtime, which is about twice as fast as torch where nothing is trained.

    One thread a call and a call on every core: two threads in one call wait for each other.
    """
    with tempfile.TemporaryDirectory() as folder:
        network, labels = teacher.network(), teacher.record.classes
        artifact = export_onnx(
            network, Path(folder) / "teacher.onnx", image_size=store.size, labels=labels, metadata={}
        )
        session = open_session(artifact.path.read_bytes(), threads=1)

    def answer(inputs: torch.Tensor) -> NDArray[np.float32]:
        (logits,) = session.run(["logits"], {"pictures": inputs.numpy()})
        return np.asarray(logits, dtype=np.float32)

    return answer


def _on_device(teacher: Teacher, device: torch.device) -> Answer:
    network = teacher.network().to(device).to(memory_format=torch.channels_last)

    def answer(inputs: torch.Tensor) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = network(inputs).float().cpu().numpy()
        return found

    return answer


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Let torch use so many threads within an operator, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
