"""Networks cut off after some of their stages, with a light head on what is left."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import torch
from timm.layers import ConvNormAct
from torch import nn
from torch.func import functional_call

from hkbench.models.classifier import Parts, pooled_head

HEAD_CHANNELS = 256
NARROW_HEAD_CHANNELS = 128
NARROW = 32
"""Feature maps of fewer channels get the narrower head."""
SAMPLE_SIZE = 224
"""Picture edge that every body takes, in pixels."""


def light_head(channels: int, classes: int) -> nn.Sequential:
    """Return a 1×1 convolution with batch-norm and ReLU6, pooling and one linear layer.

    It maps (batch, channels, h, w) to logits (batch, classes).
    """
    width = NARROW_HEAD_CHANNELS if channels < NARROW else HEAD_CHANNELS
    return nn.Sequential(
        ConvNormAct(channels, width, kernel_size=1, act_layer=nn.ReLU6),
        *pooled_head(width, classes, dropout=0.1),
    )


def cut_parts(parts: Parts, stages: int, classes: int) -> Parts:
    """Return the first `stages` of a body whose stages are in order, with a light head.

    Layers keep their names, so that weights for the whole fill the rest too. An auxiliary head falls away.
    """
    assert parts.in_order
    assert 1 <= stages <= len(parts.stages)
    kept = parts.stages[:stages]
    body = _first(parts.body, [name for stage in kept for name in stage])
    channels = _channels(body)
    return replace(
        parts, body=body, head=light_head(channels, classes), channels=channels, stages=kept, auxiliary=None
    )


def _first(body: nn.Sequential, names: Sequence[str]) -> nn.Sequential:
    """Return the modules of `body` that `names` names, or that hold one of these."""
    kept: OrderedDict[str, nn.Module] = OrderedDict()
    for name, module in body.named_children():
        inside = [other.removeprefix(f"{name}.") for other in names if other.startswith(f"{name}.")]
        if name in names:
            kept[name] = module
        elif inside and isinstance(module, nn.Sequential):
            kept[name] = _first(module, inside)
    return nn.Sequential(kept)


def _channels(body: nn.Module) -> int:
    """Return the channels of a body's feature map, found without computing it or touching its weights."""
    shapes = {name: tensor.to("meta") for name, tensor in body.state_dict().items()}
    pictures = torch.empty(2, 3, SAMPLE_SIZE, SAMPLE_SIZE, device="meta")
    return int(functional_call(body, shapes, pictures).shape[1])
