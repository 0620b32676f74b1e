"""Every network that a space or a flag can name. A new one is a builder and a line in `MODELS`."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch

from hkbench.errors import UsageError, unknown
from hkbench.models import weights as published_weights
from hkbench.models.baseline import baseline_cnn
from hkbench.models.classifier import Classifier, Parts, parameter_count, transfer_head
from hkbench.models.household import household_m, household_s
from hkbench.models.lite0 import (
    efficientnet_lite0,
    efficientnet_lite0_cut2,
    efficientnet_lite0_cut3,
    efficientnet_lite0_cut4,
)
from hkbench.models.published import densenet121, mobilenetv4_conv_small_050, squeezenet1_1
from hkbench.models.weights import ImagenetWeights

__all__ = ["MODELS", "Classifier", "ModelEntry", "Weights", "build", "parameter_count", "stage_count"]

Weights = Literal["none", "imagenet"]
EFFICIENTNET = "https://arxiv.org/abs/1905.11946"


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A network by name: how to build it, the least picture edge in pixels, and where it comes from."""

    name: str
    builder: Callable[[int], Parts]
    family: str
    smallest_image_size: int
    imagenet: ImagenetWeights | None = None
    note: str
    source: str

    @property
    def has_imagenet_weights(self) -> bool:
        """Whether ImageNet weights lie on this machine: packaged, or brought by the user."""
        return self.imagenet is not None and self.imagenet.path().is_file()


MODELS: dict[str, ModelEntry] = {
    "baseline_cnn": ModelEntry(
        name="baseline_cnn",
        builder=baseline_cnn,
        family="baseline",
        smallest_image_size=16,
        note="plain CNN that the others are measured against",
        source="hkbench",
    ),
    "household_s": ModelEntry(
        name="household_s",
        builder=household_s,
        family="household",
        smallest_image_size=32,
        note="own family, under 250 kB",
        source="hkbench",
    ),
    "household_m": ModelEntry(
        name="household_m",
        builder=household_m,
        family="household",
        smallest_image_size=32,
        note="own family, under 1 MB",
        source="hkbench",
    ),
    "squeezenet1_1": ModelEntry(
        name="squeezenet1_1",
        builder=squeezenet1_1,
        family="squeezenet",
        smallest_image_size=32,
        imagenet=published_weights.SQUEEZENET1_1,
        note="SqueezeNet 1.1, torchvision",
        source="https://arxiv.org/abs/1602.07360",
    ),
    "mobilenetv4_conv_small_050": ModelEntry(
        name="mobilenetv4_conv_small_050",
        builder=mobilenetv4_conv_small_050,
        family="mobilenet",
        smallest_image_size=32,
        imagenet=published_weights.MOBILENETV4_CONV_SMALL_050,
        note="MobileNetV4 small at half width, timm",
        source="https://arxiv.org/abs/2404.10518",
    ),
    "densenet121": ModelEntry(
        name="densenet121",
        builder=densenet121,
        family="densenet",
        smallest_image_size=32,
        imagenet=published_weights.DENSENET121,
        note="DenseNet-121, torchvision; the study's teacher",
        source="https://arxiv.org/abs/1608.06993",
    ),
    "efficientnet_lite0": ModelEntry(
        name="efficientnet_lite0",
        builder=efficientnet_lite0,
        family="efficientnet",
        smallest_image_size=32,
        imagenet=published_weights.EFFICIENTNET_LITE0,
        note="EfficientNet-Lite0, whole",
        source=EFFICIENTNET,
    ),
    "efficientnet_lite0_cut2": ModelEntry(
        name="efficientnet_lite0_cut2",
        builder=efficientnet_lite0_cut2,
        family="efficientnet_cut",
        smallest_image_size=32,
        imagenet=published_weights.EFFICIENTNET_LITE0,
        note="stem and first 2 stages of EfficientNet-Lite0, light head",
        source=EFFICIENTNET,
    ),
    "efficientnet_lite0_cut3": ModelEntry(
        name="efficientnet_lite0_cut3",
        builder=efficientnet_lite0_cut3,
        family="efficientnet_cut",
        smallest_image_size=32,
        imagenet=published_weights.EFFICIENTNET_LITE0,
        note="stem and first 3 stages of EfficientNet-Lite0, light head",
        source=EFFICIENTNET,
    ),
    "efficientnet_lite0_cut4": ModelEntry(
        name="efficientnet_lite0_cut4",
        builder=efficientnet_lite0_cut4,
        family="efficientnet_cut",
        smallest_image_size=32,
        imagenet=published_weights.EFFICIENTNET_LITE0,
        note="stem and first 4 stages of EfficientNet-Lite0, light head",
        source=EFFICIENTNET,
    ),
}


def build(
    name: str,
    *,
    classes: int,
    weights: Weights = "none",
    frozen_body: bool = False,
    frozen_stages: int = 0,
    seed: int | None = None,
) -> Classifier:
    """Build a network in training mode, on the CPU, in the channels-last memory format.

    Args:
        name: a key of `MODELS`.
        classes: the number of logits, at least 2.
        weights: "imagenet" fills the body; the head is always new.
        frozen_body: train new fully connected layers only. Without weights it is for networks whose
            state is loaded afterwards.
        frozen_stages: so many of the body's first stages aren't trained; its head stays as it is.
        seed: makes the initial weights the same each time and leaves torch's global generator alone.

    Raises:
        UsageError: no such network, fewer than 2 classes, weights that aren't on this machine, or more
            frozen stages than there are.
    """
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    if weights not in get_args(Weights):
        raise unknown("kind of weights", weights, get_args(Weights))
    if classes < 2:
        raise UsageError(f"A classifier needs at least 2 classes, found {classes}.")
    entry = MODELS[name]
    with _seeded(seed):
        parts = entry.builder(classes)
        if frozen_body:
            parts = replace(parts, head=transfer_head(parts.channels, classes))
    if weights == "imagenet":
        _imagenet(entry).load_into(parts.body)
    if not 0 <= frozen_stages <= len(parts.stages):
        raise UsageError(f"{name} has {len(parts.stages)} stages, so frozen_stages can't be {frozen_stages}.")
    frozen = len(parts.stages) if frozen_body else frozen_stages
    network = Classifier(name, classes, parts, frozen_stages=frozen)
    # Depthwise convolutions take about half the time on a CPU in this layout.
    return network.to(memory_format=torch.channels_last)


@functools.cache
def stage_count(name: str) -> int:
    """Return how many stages a network has, the parts of its body that can be frozen one by one."""
    with _seeded(0):
        return len(MODELS[name].builder(2).stages)


def _imagenet(entry: ModelEntry) -> ImagenetWeights:
    if entry.imagenet is None:
        having = ", ".join(name for name, other in MODELS.items() if other.imagenet)
        raise UsageError(
            f"No ImageNet weights were ever published for '{entry.name}': build it with weights 'none'. "
            f"Networks that have them: {having}."
        )
    return entry.imagenet


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Seed torch's generator for a while; layers draw their first weights from it and from no other."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
