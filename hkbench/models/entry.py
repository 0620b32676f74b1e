"""A line of the registry: how a network is built, what it takes, and where its weights come from."""

from collections.abc import Callable
from dataclasses import dataclass

from hkbench.models.classifier import Parts
from hkbench.models.weights import PublishedWeights, Translate, unchanged


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A network by name.

    `builder` takes the number of classes. `cut_builder`, where there is one, takes the number of stages to
    keep and the number of classes; other networks are cut after a stage of their parts.
    `smallest_image_size` is the least picture edge in pixels, `usual_image_size` the one that its weights
    were trained at, or 64 without weights. `translate` puts the tensors of any file of the library that the
    network comes from under the body's keys.
    """

    name: str
    builder: Callable[[int], Parts]
    cut_builder: Callable[[int, int], Parts] | None = None
    family: str
    smallest_image_size: int
    usual_image_size: int = 224
    imagenet: PublishedWeights | None = None
    translate: Translate = unchanged
    note: str
    source: str

    @property
    def has_imagenet_weights(self) -> bool:
        """Whether ImageNet weights lie on this machine: packaged, in a cache, or brought by the user."""
        return self.imagenet is not None and self.imagenet.found() is not None
