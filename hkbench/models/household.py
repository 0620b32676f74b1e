"""A small family of our own for household goods, made of timm's mobile blocks."""

from dataclasses import dataclass

from timm.layers import ConvNormAct, get_act_layer, make_divisible
from timm.models._efficientnet_blocks import InvertedResidual
from torch import nn

from hkbench.models.classifier import Parts, pooled_head

STEM_CHANNELS = 16
STAGE_CHANNELS = (24, 40, 64)
HEAD_CHANNELS = 96


@dataclass(frozen=True, kw_only=True)
class HouseholdConfig:
    """One member of the family.

    `width` multiplies every channel count (rounded to a multiple of 8), `depth` is the number of
    blocks in each of the three stages, `expansion` the inner width of a block, `activation` a name
    that timm knows, such as relu6, hard_swish or silu.
    """

    width: float = 1.0
    depth: int = 1
    expansion: float = 3.0
    activation: str = "relu6"
    dropout: float = 0.1


SMALL = HouseholdConfig()
MEDIUM = HouseholdConfig(width=1.5, depth=2)


def household(config: HouseholdConfig, classes: int) -> Parts:
    """Build a stem at half the size, three stages that each halve it again, and a light head.

    The block is MobileNetV2's inverted residual (https://arxiv.org/abs/1801.04381).
    """
    activation = get_act_layer(config.activation)
    channels = make_divisible(STEM_CHANNELS * config.width)
    layers: list[nn.Module] = [ConvNormAct(3, channels, kernel_size=3, stride=2, act_layer=activation)]
    for base in STAGE_CHANNELS:
        wanted = make_divisible(base * config.width)
        for position in range(config.depth):
            layers.append(
                InvertedResidual(
                    channels,
                    wanted,
                    stride=2 if position == 0 else 1,
                    exp_ratio=config.expansion,
                    act_layer=activation,
                )
            )
            channels = wanted
    blocks = [str(position) for position in range(1, len(layers))]
    stages = [tuple(blocks[at : at + config.depth]) for at in range(0, len(blocks), config.depth)]
    wanted = make_divisible(HEAD_CHANNELS * config.width)
    layers.append(ConvNormAct(channels, wanted, kernel_size=1, act_layer=activation))
    return Parts(
        body=nn.Sequential(*layers),
        head=pooled_head(wanted, classes, dropout=config.dropout),
        channels=wanted,
        stages=(("0",), *stages, (str(len(layers) - 1),)),
    )


def household_s(classes: int) -> Parts:
    """Build the small member, under 250 kB at float32."""
    return household(SMALL, classes)


def household_m(classes: int) -> Parts:
    """Build the medium member, under 1 MB at float32."""
    return household(MEDIUM, classes)
