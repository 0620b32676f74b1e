"""What a network is before anything is built: size, work, picture sizes, and where its weights come from."""

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import timm
import torchvision

from hkbench.errors import UsageError, unknown
from hkbench.models.architecture import Architecture
from hkbench.models.build import sketch
from hkbench.models.counts import folded_parameters, macs, weight_bytes
from hkbench.models.registry import MODELS, entry_of


@dataclass(frozen=True, kw_only=True)
class Task:
    """What networks are counted for: the number of classes and the picture edge in pixels."""

    classes: int
    image_size: int


TASKS = {"goods69": Task(classes=69, image_size=64), "imagenet": Task(classes=1000, image_size=224)}


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """A row of `hkbench models list`.

    Counts are of the network as it is exported: batch-norm folded, branches merged, no auxiliary head. The
    bytes are those of its weights, at float32 and with 8-bit weights; the graph of a file adds some percent.
    `macs` are multiply-accumulates of one picture of `image_size`; FLOPs are twice as many. `licence` is that
    of the ImageNet weights.
    """

    name: str
    family: str
    note: str
    source: str
    classes: int
    image_size: int
    smallest_image_size: int
    usual_image_size: int
    parameters: int
    macs: int
    fp32_bytes: int
    int8_bytes: int
    stages: tuple[str, ...]
    weights: str | None
    licence: str | None
    origin: str | None
    at_hand: bool


def describe(name: str, task: str) -> ModelDescription:
    """Describe a network for a task, at a larger picture size where it can't take the task's.

    Raises:
        UsageError: no such network or task.
    """
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    wanted = TASKS[task]
    entry = entry_of(name, wanted.image_size)
    image_size = max(wanted.image_size, entry.smallest_image_size)
    network = sketch(Architecture(model=name, image_size=image_size), wanted.classes)
    published = entry.imagenet
    return ModelDescription(
        name=name,
        family=entry.family,
        note=entry.note,
        source=entry.source,
        classes=wanted.classes,
        image_size=image_size,
        smallest_image_size=entry.smallest_image_size,
        usual_image_size=entry.usual_image_size,
        parameters=folded_parameters(network),
        macs=macs(network, image_size),
        fp32_bytes=weight_bytes(network, "fp32"),
        int8_bytes=weight_bytes(network, "int8"),
        stages=tuple(", ".join(stage) for stage in network.stages),
        weights=published.file if published else None,
        licence=published.licence if published else None,
        origin=str(published.origin) if published else None,
        at_hand=entry.has_imagenet_weights,
    )


def names(pattern: str | None) -> list[str]:
    """Return the registry's names; with a pattern those that it matches, of timm's and torchvision's too.

    Raises:
        UsageError: it matches none.
    """
    if pattern is None:
        return list(MODELS)
    found = [name for name in (*MODELS, *_foreign(pattern)) if fnmatch.fnmatch(name, pattern)]
    if not found:
        raise UsageError(f"No model matches '{pattern}'. Try 'mobilenet*' or 'timm/*mobilenet*'.")
    return found


def _foreign(pattern: str) -> Iterator[str]:
    if pattern.startswith("timm/"):
        yield from (f"timm/{name}" for name in timm.list_models())
    if pattern.startswith("torchvision/"):
        yield from (f"torchvision/{name}" for name in torchvision.models.list_models(torchvision.models))


def describe_all(
    found: Sequence[str], task: str, max_mb: float | None, advance: Callable[[int, int], None]
) -> list[ModelDescription]:
    """Describe the networks whose float32 weights take no more than `max_mb` megabytes.

    `advance` is called with (networks done, networks in all).
    """
    rows = []
    for done, name in enumerate(found, start=1):
        row = describe(name, task)
        if max_mb is None or row.fp32_bytes <= max_mb * 1e6:
            rows.append(row)
        advance(done, len(found))
    return rows
