"""Batches of an epoch: pictures, views and teacher logits, brought to the device that trains.

Three feeds, one interface. On a CPU the mapped files are read batch by batch. On a GPU the data lies in its
memory where it fits there, else batches stream through pinned memory, two ahead of the training.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hkbench.data.render import plain, render_mixed
from hkbench.training.gpu_memory import free_bytes

RESIDENT_SHARE = 0.5
"""How much of what is free to a trial the data may take; the rest is for the network and its activations."""
AHEAD = 2


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a training reads. `views`, `partners`, logits and inputs are indexed by position in `train`.

    Attributes:
        pictures: uint8 (pictures, 3, size, size), usually mapped from the picture store.
        labels: int64 (pictures,).
        train: int64 (train,), indices into `pictures`.
        validation: int64 (validation,), indices into `pictures`.
        views: float16 (views, train, parameters), as `data.augment` samples them.
        partners: int32 (views, train), positions in `train` of the pictures that mixup mixes in, or None.
        teacher_logits: float16 (views, train, classes), or None without a teacher.
        inputs: what the network is given, made ahead, or None to render views on the way. Either the
            rendered views, uint8 (views, train, size, size, 3), or what the frozen stages make of them,
            float16 (views, train, h, w, channels).
        validation_inputs: float16 (validation, h, w, channels) where `inputs` are such features.
    """

    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    views: NDArray[np.float16]
    partners: NDArray[np.int32] | None = None
    teacher_logits: NDArray[np.float16] | None = None
    inputs: NDArray[Any] | None = None
    validation_inputs: NDArray[np.float16] | None = None

    @property
    def has_features(self) -> bool:
        """Whether the inputs enter the network after its frozen stages."""
        return self.validation_inputs is not None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one step trains on, on the training's device.

    Attributes:
        inputs: float32 (batch, channels, h, w), channels-last: pictures in [0, 1], or features.
        labels: int64 (batch,).
        teacher_logits: float16 (batch, classes) of the very same views, or None.
        partner_labels: int64 (batch,), the labels of what mixup has mixed in, or None.
        share: float32 (batch,), the weight of the picture itself in the mix, or None.
    """

    inputs: Tensor
    labels: Tensor
    teacher_logits: Tensor | None
    partner_labels: Tensor | None = None
    share: Tensor | None = None

    def targets(self, classes: int) -> Tensor:
        """Return the labels, or with mixup their probabilities, float32 (batch, classes)."""
        if self.partner_labels is None or self.share is None:
            return self.labels
        share = self.share.unsqueeze(1)
        own = torch.nn.functional.one_hot(self.labels, classes)
        return own * share + torch.nn.functional.one_hot(self.partner_labels, classes) * (1 - share)


class Feed(Protocol):
    """Gives the batches of an epoch."""

    def epoch(self, batches: list[NDArray[np.int64]], views: NDArray[np.int64]) -> Iterator[Batch]:
        """Yield a batch for each array of positions; `views`, (train,), says which view of each is due."""


def feed_for(data: TrainingData, device: torch.device, *, with_teacher: bool) -> Feed:
    """Return the feed for a device: from mapped files, resident on a GPU, or streamed to it."""
    columns = _Columns.of(data, with_teacher=with_teacher)
    if device.type == "cpu":
        return HostFeed(columns)
    if columns.nbytes <= RESIDENT_SHARE * free_bytes(device):
        return ResidentFeed(columns, device)
    return StreamedFeed(columns, device)


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """The arrays of a training: mapped NumPy arrays, or tensors on a device. Both are indexed alike."""

    pictures: Any
    labels: Any
    train: Any
    parameters: Any
    partners: Any
    teacher_logits: Any
    inputs: Any

    @classmethod
    def of(cls, data: TrainingData, *, with_teacher: bool) -> "_Columns":
        return cls(
            pictures=data.pictures if data.inputs is None else None,
            labels=data.labels,
            train=data.train,
            parameters=data.views,
            partners=data.partners,
            teacher_logits=data.teacher_logits if with_teacher else None,
            inputs=data.inputs,
        )

    @property
    def nbytes(self) -> int:
        """How much memory all of it takes."""
        return sum(getattr(self, each.name).nbytes for each in fields(self) if _is_there(self, each.name))

    def to(self, device: torch.device) -> "_Columns":
        """Return tensors with the same content on a device."""
        there = [each.name for each in fields(self) if _is_there(self, each.name)]
        return replace(self, **{name: torch.tensor(getattr(self, name), device=device) for name in there})

    def fetch(self, views: Any, positions: Any) -> "_Fetched":
        """Return what a batch needs, not rendered yet."""
        rows = self.train[positions]
        found: dict[str, Any] = {"labels": self.labels[rows]}
        if self.teacher_logits is not None:
            found["teacher_logits"] = self.teacher_logits[views, positions]
        if self.inputs is not None:
            found["inputs"] = self.inputs[views, positions]
        else:
            found["pictures"] = self.pictures[rows]
        if self.inputs is None or self.partners is not None:
            found["parameters"] = self.parameters[views, positions]
        if self.partners is not None:
            partners = self.partners[views, positions]
            rows = self.train[partners]
            found["partner_labels"] = self.labels[rows]
            if self.inputs is None:
                found["partner_pictures"] = self.pictures[rows]
                found["partner_parameters"] = self.parameters[views, partners]
        return _Fetched(**{name: torch.as_tensor(values) for name, values in found.items()})


def _is_there(columns: _Columns, name: str) -> bool:
    return getattr(columns, name) is not None


@dataclass(frozen=True, kw_only=True)
class _Fetched:
    """A batch as it was fetched."""

    labels: Tensor
    inputs: Tensor | None = None
    pictures: Tensor | None = None
    parameters: Tensor | None = None
    partner_pictures: Tensor | None = None
    partner_parameters: Tensor | None = None
    partner_labels: Tensor | None = None
    teacher_logits: Tensor | None = None

    def _each(self, change: Any) -> "_Fetched":
        there = {each.name: getattr(self, each.name) for each in fields(self)}
        return _Fetched(**{name: change(tensor) for name, tensor in there.items() if tensor is not None})

    def pinned(self) -> "_Fetched":
        """Return copies in pinned memory, from which a GPU copies beside its other work."""
        return self._each(Tensor.pin_memory)

    def to(self, device: torch.device) -> "_Fetched":
        """Return copies on a device; from pinned memory without waiting for them."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def used_by(self, stream: Any) -> None:
        """Keep the memory until a stream is done with it."""
        self._each(lambda tensor: tensor.record_stream(stream))

    def batch(self) -> Batch:
        """Render what is not rendered yet."""
        return Batch(
            inputs=_as_floats(self._inputs()),
            labels=self.labels,
            teacher_logits=self.teacher_logits,
            partner_labels=self.partner_labels,
            share=self.parameters[:, -1].float() if self._is_mixed and self.parameters is not None else None,
        )

    @property
    def _is_mixed(self) -> bool:
        return self.partner_labels is not None

    def _inputs(self) -> Tensor:
        if self.inputs is not None:
            return self.inputs.permute(0, 3, 1, 2)  # stored channels-last already
        assert self.pictures is not None
        assert self.parameters is not None
        partners = None
        if self.partner_pictures is not None and self.partner_parameters is not None:
            partners = self.partner_pictures, self.partner_parameters
        return render_mixed(self.pictures, self.parameters, partners)


def _as_floats(inputs: Tensor) -> Tensor:
    return plain(inputs) if inputs.dtype == torch.uint8 else inputs.float()


class HostFeed:
    """Reads the mapped files batch by batch: for a CPU, whose own memory they are."""

    def __init__(self, columns: _Columns) -> None:
        self._columns = columns

    def epoch(self, batches: list[NDArray[np.int64]], views: NDArray[np.int64]) -> Iterator[Batch]:
        """Yield a batch for each array of positions."""
        for positions in batches:
            yield self._columns.fetch(views[positions], positions).batch()


class ResidentFeed:
    """Keeps everything in the device's memory and gathers there."""

    def __init__(self, columns: _Columns, device: torch.device) -> None:
        self._columns = columns.to(device)
        self._device = device

    def epoch(self, batches: list[NDArray[np.int64]], views: NDArray[np.int64]) -> Iterator[Batch]:
        """Yield a batch for each array of positions."""
        order = torch.tensor(np.concatenate(batches), device=self._device)
        views_there = torch.tensor(views, device=self._device)
        for positions in torch.split(order, [len(batch) for batch in batches]):
            yield self._columns.fetch(views_there[positions], positions).batch()


_Copied = tuple[_Fetched, torch.cuda.Event | None]
"""A batch on its way to a device, and what tells that it has arrived."""


class StreamedFeed:
    """Fetches in a thread into pinned memory and copies to the device beside its training."""

    def __init__(self, columns: _Columns, device: torch.device) -> None:
        self._columns = columns
        self._device = device
        self._stream: Any = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def epoch(self, batches: list[NDArray[np.int64]], views: NDArray[np.int64]) -> Iterator[Batch]:
        """Yield a batch for each array of positions."""
        with ThreadPoolExecutor(1) as thread:
            waiting = iter(batches)

            def start(number: int) -> list[Future[_Fetched]]:
                return [
                    thread.submit(self._fetch, views[positions], positions)
                    for positions in islice(waiting, number)
                ]

            coming = deque(start(AHEAD))
            copied: _Copied | None = None
            while coming or copied is not None:
                following = self._copy(coming.popleft().result()) if coming else None
                coming.extend(start(1))
                if copied is not None:
                    yield self._ready(copied)
                copied = following

    def _fetch(self, views: NDArray[np.int64], positions: NDArray[np.int64]) -> _Fetched:
        fetched = self._columns.fetch(views, positions)
        return fetched if self._stream is None else fetched.pinned()

    def _copy(self, fetched: _Fetched) -> _Copied:
        if self._stream is None:
            return fetched.to(self._device), None
        with torch.cuda.stream(self._stream):
            return fetched.to(self._device), self._stream.record_event()

    def _ready(self, copied: _Copied) -> Batch:
        fetched, arrived = copied
        if arrived is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(arrived)
            fetched.used_by(current)
        return fetched.batch()
