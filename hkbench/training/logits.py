"""Teacher logits: what the teachers say of every view of the train part, made once and mapped."""

import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hkbench.config import usable_cores
from hkbench.data.augment import ViewTable
from hkbench.data.render import plain
from hkbench.data.splits import Split
from hkbench.data.store import PictureStore
from hkbench.export.onnx import export_onnx
from hkbench.export.session import open_session
from hkbench.store.blocks import Advance
from hkbench.training.ahead import CPU, ahead_path, make_ahead, open_ahead, render, torch_threads
from hkbench.training.teacher import Teacher

BATCH = 128
BLOCK_ROWS = 256
CHECKED_ROWS = 8
TOLERANCE = 0.05
"""How far a recomputed logit may be from a stored one, times 1 + its size: float16 and another runtime."""
TIMED_BATCHES = 2

Answer = Callable[[torch.Tensor], NDArray[np.float32]]
"""Views, float32 (batch, 3, size, size), → logits, float32 (batch, classes)."""


class TeacherPass:
    """Teachers ready to run over views, each at its own picture size; their logits are averaged.

    Args:
        teachers: at least one, all of the same classes.
        stores: pictures by size, for every teacher's size.
        split: whose train part they are asked about.
        device: where they run. On a CPU in ONNX Runtime, about twice as fast as torch where nothing is
            trained, one thread a call and a call on every core: two threads in a call wait for each other.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],
        stores: Mapping[int, PictureStore],
        split: Split,
        device: torch.device,
    ) -> None:
        self._teachers = teachers
        self._stores = [stores[teacher.record.recipe.image_size] for teacher in teachers]
        self._split = split
        self._device = device
        self._answers: list[Answer] | None = None
        self._preparing = threading.Lock()
        self._workers = usable_cores() if device.type == "cpu" else 1

    def logits(self, views: ViewTable, *, advance: Advance | None = None) -> Path:
        """Return the file of the logits, float16 (views, train, classes); made if it isn't there whole.

        The teachers see the very views that students see. Two processes that ask for the same logits at once
        make them once; a pass that was killed goes on where it stopped. Logits that are there already are
        held against their checksums, and a few rows against the teachers themselves.

        Raises:
            UsageError: the disk is full.
        """
        path = self._path(views)
        shape = (views.parameters.shape[0], len(self._split.train), len(self._stores[0].classes))

        def rows(view: NDArray[np.int64], position: NDArray[np.int64]) -> NDArray[np.float32]:
            starts = range(0, len(view), BATCH)
            batches = [(view[at : at + BATCH], position[at : at + BATCH]) for at in starts]
            return np.concatenate([self._mean(views, *batch) for batch in batches])

        make_ahead(
            path,
            shape,
            "float16",
            rows,
            workers=self._workers,
            rows_a_block=BLOCK_ROWS,
            advance=advance,
            holds=lambda: self._holds(path, views),
        )
        return path

    @property
    def key(self) -> str:
        """What the answers depend on: the teachers and their pictures."""
        known = [teacher.record.sha256 for teacher in self._teachers]
        return " ".join([*known, *(store.key for store in self._stores)])

    def has(self, views: ViewTable) -> bool:
        """Say whether the logits of these views are there already."""
        return self._path(views).exists()

    def _path(self, views: ViewTable) -> Path:
        return ahead_path("logits", self.key, self._split.hash, views.key)

    def seconds_a_view(self, views: ViewTable) -> float:
        """Time a few batches and return what a whole view of the train part takes."""
        positions = np.arange(min(BATCH, len(self._split.train)))
        self._mean(views, np.zeros_like(positions), positions)  # the first call prepares
        with torch_threads(1), ThreadPoolExecutor(self._workers) as pool:
            started = time.perf_counter()
            batches = TIMED_BATCHES * self._workers
            list(pool.map(lambda _: self._mean(views, np.zeros_like(positions), positions), range(batches)))
            seconds = time.perf_counter() - started
        return seconds / (batches * len(positions)) * len(self._split.train)

    def _mean(
        self, table: ViewTable, views: NDArray[np.int64], positions: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        with self._preparing:  # the exporter can't run twice at a time
            if self._answers is None:
                self._answers = self._prepared()
        return self._average(self._answers, table, views, positions, self._device)

    def _prepared(self) -> list[Answer]:
        pairs = zip(self._teachers, self._stores, strict=True)
        on_cpu = self._device.type == "cpu"
        return [
            _in_onnxruntime(teacher, store) if on_cpu else _in_torch(teacher, self._device)
            for teacher, store in pairs
        ]

    def _average(
        self,
        answers: Sequence[Answer],
        table: ViewTable,
        views: NDArray[np.int64],
        positions: NDArray[np.int64],
        device: torch.device,
    ) -> NDArray[np.float32]:
        total: NDArray[np.float32] | None = None
        for answer, store in zip(answers, self._stores, strict=True):
            found = answer(plain(render(store, self._split, table, views, positions, device)))
            total = found if total is None else total + found
        assert total is not None
        return total / np.float32(len(answers))

    def _holds(self, path: Path, table: ViewTable) -> bool:
        """Recompute a few rows, in torch, and say whether they are what the file holds."""
        stored = open_ahead(path, table.parameters.shape[0])
        rows = np.linspace(0, stored.shape[0] * stored.shape[1] - 1, CHECKED_ROWS).astype(np.int64)
        views, positions = np.divmod(rows, stored.shape[1])
        answers = [_in_torch(teacher, CPU) for teacher in self._teachers]
        expected = self._average(answers, table, views, positions, CPU)
        return bool(np.allclose(stored[views, positions], expected, rtol=TOLERANCE, atol=TOLERANCE))


def _in_onnxruntime(teacher: Teacher, store: PictureStore) -> Answer:
    with tempfile.TemporaryDirectory() as folder:
        network, labels = teacher.network(), teacher.record.classes
        artifact = export_onnx(
            network, Path(folder) / "teacher.onnx", image_size=store.size, labels=labels, metadata={}
        )
        session = open_session(artifact.path.read_bytes(), threads=1)

    def answer(inputs: torch.Tensor) -> NDArray[np.float32]:
        (logits,) = session.run(["logits"], {"pictures": inputs.contiguous().numpy()})
        return np.asarray(logits, dtype=np.float32)

    return answer


def _in_torch(teacher: Teacher, device: torch.device) -> Answer:
    network = teacher.network().to(device).to(memory_format=torch.channels_last)

    def answer(inputs: torch.Tensor) -> NDArray[np.float32]:
        with torch.inference_mode():
            there = inputs.to(device).contiguous(memory_format=torch.channels_last)
            found: NDArray[np.float32] = network(there).float().cpu().numpy()
        return found

    return answer
