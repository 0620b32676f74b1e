"""A member of the family, built: stem, stages, classifier."""

from collections.abc import Callable

from timm.layers import ConvNormAct, make_divisible
from torch import nn

from hkbench.models.activations import activation_factory
from hkbench.models.classifier import Parts, global_pool, pooled_head
from hkbench.models.household.blocks import BLOCKS, BlockShape
from hkbench.models.household.config import MEDIUM, SMALL, HouseholdConfig, StemName
from hkbench.models.household.layouts import LAYOUTS, Stage

Activation = Callable[..., nn.Module]


def household(config: HouseholdConfig, classes: int) -> Parts:
    """Build a member of the family; its body's stages are the stem, the layout's and the hidden layer."""
    layout = LAYOUTS[config.layout]
    activation = activation_factory(config.activation)
    channels = make_divisible(layout.stem * config.width)
    groups = [STEMS[config.stem](channels, activation)]
    for stage in layout.stages:
        wanted = make_divisible(stage.channels * config.width)
        groups.append(_blocks(config, stage, channels, wanted))
        channels = wanted
    if config.classifier == "hidden":
        wanted = make_divisible(layout.head * config.width)
        groups.append([ConvNormAct(channels, wanted, kernel_size=1, act_layer=activation)])
        channels = wanted
    return Parts(
        body=nn.Sequential(*(layer for group in groups for layer in group)),
        head=_head(config, channels, classes),
        channels=channels,
        stages=_names(groups),
    )


def household_s(classes: int) -> Parts:
    """Build the small member, under 250 kB at float32."""
    return household(SMALL, classes)


def household_m(classes: int) -> Parts:
    """Build the medium member, under 1 MB at float32."""
    return household(MEDIUM, classes)


def _conv(channels: int, activation: Activation) -> list[nn.Module]:
    return [ConvNormAct(3, channels, kernel_size=3, stride=2, act_layer=activation)]


def _conv_pool(channels: int, activation: Activation) -> list[nn.Module]:
    return [*_conv(channels, activation), nn.MaxPool2d(3, stride=2, padding=1)]


def _patch(channels: int, activation: Activation) -> list[nn.Module]:
    return [ConvNormAct(3, channels, kernel_size=4, stride=4, padding=0, act_layer=activation)]


STEMS: dict[StemName, Callable[[int, Activation], list[nn.Module]]] = {
    "conv": _conv,
    "conv_pool": _conv_pool,
    "patch": _patch,
}


def _blocks(config: HouseholdConfig, stage: Stage, before: int, after: int) -> list[nn.Module]:
    return [
        BLOCKS[config.block](
            BlockShape(
                before=before if position == 0 else after,
                after=after,
                stride=stage.stride if position == 0 else 1,
                kernel_size=config.kernel_size,
                expansion=stage.expansion or config.expansion,
                squeeze_excitation=config.squeeze_excitation,
                activation=activation_factory(config.activation),
            )
        )
        for position in range(stage.blocks * config.depth)
    ]


def _head(config: HouseholdConfig, channels: int, classes: int) -> nn.Sequential:
    if config.classifier != "conv":
        return pooled_head(channels, classes, dropout=config.dropout)
    # ReLU whatever the activation is: one that ends at 1, like tanh, would hold the logits there. Without any
    # this would be the linear classifier, since a 1×1 convolution and a mean can change places.
    to_classes = nn.Conv2d(channels, classes, kernel_size=1)
    return nn.Sequential(nn.Dropout(config.dropout), to_classes, nn.ReLU(inplace=True), global_pool())


def _names(groups: list[list[nn.Module]]) -> tuple[tuple[str, ...], ...]:
    """Return the names that a Sequential of all gives to the modules of each group."""
    names, at = [], 0
    for group in groups:
        names.append(tuple(str(position) for position in range(at, at + len(group))))
        at += len(group)
    return tuple(names)
