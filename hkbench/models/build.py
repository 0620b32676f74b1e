"""Networks from their architecture: structure, head, weights, activations, frozen stages, in this order."""

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from hkbench.errors import UsageError, unknown
from hkbench.models.activations import swap_activations
from hkbench.models.architecture import FAMILY, Architecture
from hkbench.models.classifier import Classifier, Parts, transfer_head
from hkbench.models.cut import cut_parts
from hkbench.models.entry import ModelEntry
from hkbench.models.household import household
from hkbench.models.registry import entry_of
from hkbench.models.weights import load_weights

UNFREEZE = ("none", "last-stage", "last-<k>", "all")


def build(
    architecture: Architecture | str,
    *,
    classes: int,
    weights: str = "none",
    unfreeze: str = "all",
    seed: int | None = None,
) -> Classifier:
    """Build a network in training mode, on the CPU, in the channels-last memory format.

    Args:
        architecture: what to build; a name alone is that network as it was published.
        classes: the number of logits, at least 2.
        weights: "none", "imagenet", the path of a file, or "hf-hub:owner/repository"; they fill the body, and
            the head is new unless the file is a network of hkbench's with the same one.
        unfreeze: which of the body's stages are trained: see `frozen_stages`.
        seed: makes the initial weights the same each time and leaves torch's global generator alone.

    Raises:
        UsageError: a structure that can't be, fewer than 2 classes, weights that can't be had or don't fit,
            or stages that aren't there.
    """
    if isinstance(architecture, str):
        architecture = Architecture(model=architecture)
    if classes < 2:
        raise UsageError(f"A classifier needs at least 2 classes, found {classes}.")
    entry = entry_of(architecture.model, architecture.image_size)
    with _seeded(seed):
        network = Classifier(architecture.label, classes, _parts(architecture, entry, classes))
    if architecture.activation is not None and entry.name != FAMILY:
        _swap(network, architecture.activation)
    if weights != "none":  # after the swap, for the file may hold what an activation has learned
        load_weights(network, entry, weights)
    network.freeze(frozen_stages(unfreeze, network.stages))
    # Depthwise convolutions take about half the time on a CPU in this layout.
    return network.to(memory_format=torch.channels_last)


def _parts(architecture: Architecture, entry: ModelEntry, classes: int) -> Parts:
    parts = _parts_for_large_pictures(architecture, entry, classes)
    if parts.auxiliary is not None and architecture.image_size < parts.auxiliary.smallest_image_size:
        parts = replace(parts, auxiliary=None)
    return parts


def _parts_for_large_pictures(architecture: Architecture, entry: ModelEntry, classes: int) -> Parts:
    """Return the parts with their auxiliary head, if any, whatever the picture size."""
    if architecture.cut is not None:
        parts = _cut(entry, architecture, classes)
    elif entry.name == FAMILY:
        parts = household(architecture.member(), classes)
    else:
        _refuse_options(architecture)
        parts = entry.builder(classes)
    if architecture.head_layers is not None:
        head = transfer_head(
            parts.channels,
            classes,
            layers=architecture.head_layers,
            width=architecture.head_width,
            dropout=architecture.head_dropout,
        )
        parts = replace(parts, head=head)
    has_new_head = architecture.cut is not None or architecture.head_layers is not None
    if has_new_head and entry.name == FAMILY:  # its own head has the right activation already
        swap_activations(parts.head, architecture.member().activation)
    return parts


def _cut(entry: ModelEntry, architecture: Architecture, classes: int) -> Parts:
    assert architecture.cut is not None
    if entry.cut_builder is not None:
        return entry.cut_builder(architecture.cut, classes)
    whole = _parts(architecture.model_copy(update={"cut": None, "head_layers": None}), entry, classes)
    if not whole.in_order:
        raise UsageError(
            f"{entry.name} can't be cut, for its body isn't a row of stages: "
            "leave cut out, or take a network of timm's or of hkbench's own list."
        )
    if architecture.cut > len(whole.stages):
        raise UsageError(
            f"{entry.name} has {len(whole.stages)} stages, so it can't be cut to {architecture.cut}."
        )
    return cut_parts(whole, architecture.cut, classes)


def _refuse_options(architecture: Architecture) -> None:
    if architecture.options:
        names = ", ".join(architecture.options)
        raise UsageError(f"{names}: only the model '{FAMILY}' has such options, not '{architecture.model}'.")


def _swap(network: Classifier, activation: str) -> None:
    """Swap every activation but one after the last layer, as SqueezeNet has: that would bound the logits."""
    after = _after_the_logits(network.head, network.classes)
    if not swap_activations(network, activation):
        raise UsageError(f"{network.name} has no activation that could be swapped for {activation}.")
    for name, module in after.items():
        network.head.set_submodule(name, module)


def _after_the_logits(head: nn.Module, classes: int) -> dict[str, nn.Module]:
    """Return the parts of a head that come after its layer to the classes, by name."""
    parts = list(head.named_children())
    sizes = [getattr(part, "out_features", getattr(part, "out_channels", None)) for _, part in parts]
    last = max(place for place, size in enumerate(sizes) if size == classes)
    return dict(parts[last + 1 :])


def frozen_stages(unfreeze: str, stages: tuple[tuple[str, ...], ...]) -> int:
    """Return how many of a body's stages, from the first on, are not trained.

    `unfreeze` is "none" (all are frozen), "last-stage", "last-3" for the last three, "all", or the name of
    the layer from whose stage on the body is trained.

    Raises:
        UsageError: no such layer, or not so many stages.
    """
    if unfreeze in ("all", "none"):
        return 0 if unfreeze == "all" else len(stages)
    counted = re.fullmatch(r"last-(\d+|stage)", unfreeze)
    if counted is not None:
        last = 1 if counted[1] == "stage" else int(counted[1])
        if not 1 <= last <= len(stages):
            raise UsageError(f"unfreeze is '{unfreeze}', but the body has {len(stages)} stages.")
        return len(stages) - last
    for number, stage in enumerate(stages):
        if any(unfreeze == name or unfreeze.startswith(f"{name}.") for name in stage):
            return number
    names = [name for stage in stages for name in stage]
    raise unknown("layer to unfreeze from", unfreeze, [*UNFREEZE, *names])


def check(architecture: Architecture, unfreeze: str = "all") -> None:
    """Refuse what can't be built or can't take pictures of its size, without building it.

    Raises:
        UsageError: says what is wrong.
    """
    entry = entry_of(architecture.model, architecture.image_size)
    if architecture.image_size < entry.smallest_image_size:
        raise UsageError(
            f"{entry.name} takes pictures of at least {entry.smallest_image_size} px, "
            f"found image_size {architecture.image_size}."
        )
    if entry.name == FAMILY:
        architecture.member()
    else:
        _refuse_options(architecture)
    swaps = architecture.activation is not None and entry.name != FAMILY
    if swaps or architecture.cut is not None or unfreeze not in ("all", "none"):
        frozen_stages(unfreeze, sketch(architecture).stages)


@functools.lru_cache(maxsize=1024)
def sketch(architecture: Architecture, classes: int = 2) -> Classifier:
    """Build a network without memory for its weights, to be counted and asked about its stages.

    Raises:
        UsageError: the structure can't be.
    """
    with torch.device("meta"):
        return build(architecture, classes=classes)


@functools.lru_cache(maxsize=1024)
def left_out(architecture: Architecture) -> str | None:
    """Return a warning where a network trains without its auxiliary head, since the pictures are too small.

    None where it has none or trains with it. A network that isn't trained needs no such head.

    Raises:
        UsageError: the structure can't be.
    """
    entry = entry_of(architecture.model, architecture.image_size)
    with torch.device("meta"):
        auxiliary = _parts_for_large_pictures(architecture, entry, classes=2).auxiliary
    if auxiliary is None or architecture.image_size >= auxiliary.smallest_image_size:
        return None
    return (
        f"{architecture.model} trains without its auxiliary head: that needs pictures of at least "
        f"{auxiliary.smallest_image_size} px, found {architecture.image_size}."
    )


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Seed torch's generator for a while; layers draw their first weights from it and from no other."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
