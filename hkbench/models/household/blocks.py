"""What the stages of the family are made of, from timm's layers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from timm.layers import ConvNormAct, make_divisible
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual, SqueezeExcite
from timm.models.byobnet import LayerFn, MobileOneBlock
from timm.models.ghostnet import GhostBottleneck
from torch import Tensor, nn

BlockName = Literal["plain", "fire", "separable", "inverted", "ghost", "rep"]

SQUEEZE_RATIO = 0.25
# As in MobileNetV3 (https://arxiv.org/abs/1905.02244): a quarter of the channels, and a cheap gate.
_squeeze_excite = partial(
    SqueezeExcite,
    rd_ratio=SQUEEZE_RATIO,
    gate_layer="hard_sigmoid",
    rd_round_fn=make_divisible,
)


@dataclass(frozen=True, kw_only=True)
class BlockShape:
    """What a block has to be: channels `before` and `after` it, and the options of the network."""

    before: int
    after: int
    stride: int
    kernel_size: int
    expansion: float
    squeeze_excitation: bool
    activation: Callable[..., nn.Module]

    @property
    def squeeze_layer(self) -> Callable[..., nn.Module] | None:
        """What makes the squeeze-excitation of so many channels; None where there is none."""
        return partial(_squeeze_excite, act_layer=self.activation) if self.squeeze_excitation else None

    def squeezed(self, block: nn.Module) -> nn.Module:
        """Return a block whose result is weighed, channel by channel, where the option is on."""
        return nn.Sequential(block, self.squeeze_layer(self.after)) if self.squeeze_layer else block


class Fire(nn.Module):
    """SqueezeNet's block: 1×1 down to an eighth of its channels, then 1×1 and k×k side by side, half each.

    https://arxiv.org/abs/1602.07360, section 3, with the ratios of version 1.1 and batch-norm after each
    convolution. A stride of 2 is a max-pooling before it.
    """

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        layer = partial(ConvNormAct, act_layer=shape.activation)
        inner, half = make_divisible(shape.after / 8), shape.after // 2
        self.pool = nn.MaxPool2d(3, stride=2, padding=1) if shape.stride == 2 else nn.Identity()
        self.squeeze = layer(shape.before, inner, kernel_size=1)
        self.expand1x1 = layer(inner, half, kernel_size=1)
        self.expand = layer(inner, shape.after - half, kernel_size=shape.kernel_size)

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, before, h, w) to (batch, after, h / stride, w / stride)."""
        squeezed = self.squeeze(self.pool(features))
        return torch.cat([self.expand1x1(squeezed), self.expand(squeezed)], dim=1)


def plain(shape: BlockShape) -> nn.Module:
    """Return one k×k convolution with batch-norm and activation."""
    return shape.squeezed(
        ConvNormAct(
            shape.before,
            shape.after,
            kernel_size=shape.kernel_size,
            stride=shape.stride,
            act_layer=shape.activation,
        )
    )


def fire(shape: BlockShape) -> nn.Module:
    """Return SqueezeNet's block."""
    return shape.squeezed(Fire(shape))


def separable(shape: BlockShape) -> nn.Module:
    """Return MobileNet's block, depthwise then pointwise, without a shortcut."""
    return _separable(shape, noskip=True, pw_act=True)


def inverted(shape: BlockShape) -> nn.Module:
    """Return MobileNetV2's block: wider, depthwise, narrow again without an activation, with a shortcut.

    An expansion of 1 leaves the first of the three out, as the paper's first block does.
    """
    if shape.expansion == 1:
        return _separable(shape)
    block: nn.Module = InvertedResidual(
        shape.before,
        shape.after,
        dw_kernel_size=shape.kernel_size,
        stride=shape.stride,
        exp_ratio=shape.expansion,
        act_layer=shape.activation,
        se_layer=shape.squeeze_layer,
    )
    return block


def ghost(shape: BlockShape) -> nn.Module:
    """Return GhostNet's bottleneck (https://arxiv.org/abs/1911.11907): half of its maps cost little.

    They are made from the others. The kernel size is that of its strided convolutions; cheap ones are 3×3.
    """
    block = GhostBottleneck(
        shape.before,
        make_divisible(shape.before * shape.expansion),
        shape.after,
        dw_kernel_size=shape.kernel_size,
        stride=shape.stride,
        act_layer=shape.activation,
        se_ratio=SQUEEZE_RATIO if shape.squeeze_excitation else 0.0,
    )
    if shape.squeeze_excitation:
        block.se.act1 = shape.activation()  # timm's is ReLU, whatever `act_layer` says
    return block  # type: ignore[no-any-return]


def rep(shape: BlockShape) -> nn.Module:
    """Return MobileOne's block (https://arxiv.org/abs/2206.04040), depthwise then pointwise.

    Each has branches side by side in training, which `fused` makes one convolution.
    """
    depthwise = MobileOneBlock(
        shape.before,
        shape.before,
        kernel_size=shape.kernel_size,
        stride=shape.stride,
        group_size=1,
        layers=LayerFn(act=shape.activation, attn=shape.squeeze_layer),
    )
    pointwise = MobileOneBlock(shape.before, shape.after, kernel_size=1, layers=LayerFn(act=shape.activation))
    return nn.Sequential(depthwise, pointwise)


def _separable(shape: BlockShape, **options: bool) -> nn.Module:
    block: nn.Module = DepthwiseSeparableConv(
        shape.before,
        shape.after,
        dw_kernel_size=shape.kernel_size,
        stride=shape.stride,
        act_layer=shape.activation,
        se_layer=shape.squeeze_layer,
        **options,
    )
    return block


BLOCKS: dict[BlockName, Callable[[BlockShape], nn.Module]] = {
    "plain": plain,
    "fire": fire,
    "separable": separable,
    "inverted": inverted,
    "ghost": ghost,
    "rep": rep,
}
