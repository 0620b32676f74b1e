"""Any classifier of torchvision (https://pytorch.org/vision/stable/models.html) by its name there."""

import functools
import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from hkbench.models.classifier import Parts
from hkbench.models.entry import ModelEntry
from hkbench.models.foreign.body import made, pooled_parts, translation
from hkbench.models.foreign.names import unknown_foreign
from hkbench.models.foreign.sizes import REFUSALS, refuse_below, smallest, takes
from hkbench.models.weights.files import torchvision_weights
from hkbench.models.weights.published import Tensors

PREFIX = "torchvision/"
WITH_AUXILIARY = ("googlenet", "inception_v3")
CONTAINERS = ("features", "encoder", "encoder.layers", "layers", "blocks", "trunk_output")
"""Modules that are a network's blocks and no block themselves."""


@functools.lru_cache(maxsize=512)
def torchvision_entry(name: str, image_size: int) -> ModelEntry:
    """Return the entry of `torchvision/NAME`; its weights are those that torchvision uses by default.

    A network that is made for one picture size, such as a vision transformer, is built for `image_size`.

    Raises:
        UsageError: torchvision has no such classifier, or the network takes no pictures of a usual size.
    """
    known = name.removeprefix(PREFIX)
    names = models.list_models(module=models)
    if known not in names:
        raise unknown_foreign("torchvision", known, names)
    weights = models.get_model_weights(known).DEFAULT
    usual = weights.transforms().crop_size[0]
    least = smallest(name, functools.partial(_fits, known), image_size, usual)

    def builder(classes: int) -> Parts:
        if _size_argument(known, image_size):
            refuse_below(name, least, image_size)
        return _parts(known, image_size, classes)

    return ModelEntry(
        name=name,
        builder=builder,
        family="torchvision",
        smallest_image_size=least,
        usual_image_size=usual,
        imagenet=torchvision_weights(known),
        translate=translation(_adapted),
        note=f"torchvision's {known}",
        source=weights.meta["recipe"],
    )


def _size_argument(name: str, image_size: int) -> dict[str, object]:
    """Return what a network that is made for one picture size is built with; nothing for the others."""
    if name.startswith("vit_"):
        return {"image_size": image_size}
    return {"input_size": (image_size, image_size)} if name == "maxvit_t" else {}


def _create(name: str, image_size: int) -> tuple[nn.Module, int]:
    """Return a network that gives pooled features (batch, channels), and how many channels these are."""
    arguments = _size_argument(name, image_size)
    if name in WITH_AUXILIARY:
        # Their weights expect this second normalisation on top of ImageNet's.
        arguments |= {"aux_logits": False, "init_weights": True, "transform_input": True}
    network: Any = made(lambda: models.get_model(name, weights=None, **arguments))
    if name.startswith("squeezenet"):
        channels = int(network.classifier[1].in_channels)
        network.classifier = network.classifier[3:]  # its last convolution gives the classes
        return network, channels
    last, layer = [item for item in network.named_modules() if isinstance(item[1], nn.Linear)][-1]
    network.set_submodule(last, nn.Identity())
    return network, layer.in_features


@functools.lru_cache(maxsize=64)
def _sketched(name: str, image_size: int) -> nn.Module:
    with torch.device("meta"):
        return _create(name, image_size)[0]


@functools.lru_cache(maxsize=4096)
def _fits(name: str, image_size: int) -> bool:
    try:
        network = _sketched(name, image_size if _size_argument(name, image_size) else 0)
    except REFUSALS:
        return False
    return takes(network, image_size)


def _parts(name: str, image_size: int, classes: int) -> Parts:
    network, channels = _create(name, image_size)
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    return pooled_parts(
        network, channels, classes, _groups(network), tuple(transforms.mean), tuple(transforms.std)
    )


def _groups(network: nn.Module) -> Mapping[str, int]:
    """Return the group of each parameter: one for each block; what is no block goes with its neighbour.

    A layer of vectors alone, such as a norm, goes with the block before it; a bare parameter with the first.
    """
    dimensions: dict[str, int] = {}
    for name, parameter in network.named_parameters():
        block = _block(name)
        dimensions[block] = max(dimensions.get(block, 0), parameter.ndim)
    dimensions.pop("", None)
    groups = itertools.accumulate(most > 1 and number > 0 for number, most in enumerate(dimensions.values()))
    numbers = {"": 0, **dict(zip(dimensions, groups, strict=True))}
    return {name: numbers[_block(name)] for name, _ in network.named_parameters()}


def _block(parameter: str) -> str:
    """Return the outermost module of a parameter that is no container; nothing if there is none."""
    parents = parameter.split(".")[:-1]
    paths = [".".join(parents[: depth + 1]) for depth in range(len(parents))]
    return next((path for path in paths if path not in CONTAINERS), "")


def _adapted(tensors: Tensors, network: nn.Module) -> Tensors:
    """Fit the position embeddings of a vision transformer to the picture size of `network`."""
    if not isinstance(network, VisionTransformer):
        return tensors
    fitted: Tensors = interpolate_embeddings(network.image_size, network.patch_size, dict(tensors))
    return fitted
