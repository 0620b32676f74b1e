"""What a network costs, counted from its structure alone: parameters, bytes, multiply-accumulates."""

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, get_args

import torch
from timm.utils import reparameterize_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hkbench.errors import unknown
from hkbench.models.classifier import Classifier

Precision = Literal["fp32", "fp16", "int8", "w8"]
"""What a file's numbers are: fp16 is for GPUs, int8 computes in integers, w8 stores 8-bit weights and
computes in float32."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

FLOAT_BYTES, HALF_BYTES = 4, 2
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def check_precision(name: str) -> Precision:
    """Return a precision by its name.

    Raises:
        UsageError: hkbench knows none of that name.
    """
    found = next((each for each in PRECISIONS if each == name), None)
    if found is None:
        raise unknown("precision", name, PRECISIONS)
    return found


def fused(network: nn.Module) -> nn.Module:
    """Return a copy for inference in which branches that only training needs are merged into one convolution.

    It gives the same logits but for rounding (RepVGG, https://arxiv.org/abs/2101.03697, section 3.3).
    """
    return _merged(copy.deepcopy(network))


def folded_parameters(network: nn.Module) -> int:
    """Return the number of parameters of what is exported.

    Branches are merged, and the auxiliary head is left out. A batch-norm is folded into the layer before it,
    of which a bias for each channel stays.
    """
    return _folded_parameters(_skeleton(network))


def weight_bytes(network: nn.Module, precision: Precision) -> int:
    """Return the bytes that the parameters of what is exported take.

    fp32: 4 for each. fp16: 2 for each. int8 and w8: 1 for each weight of a convolution or linear layer, 2
    for a scale of each of their output channels, and 2 for each other parameter, such as a bias.
    """
    skeleton = _skeleton(network)
    parameters = _folded_parameters(skeleton)
    if precision in ("fp32", "fp16"):
        return parameters * (FLOAT_BYTES if precision == "fp32" else HALF_BYTES)
    weights = [layer.weight for layer in skeleton.modules() if isinstance(layer, (*CONVOLUTIONS, nn.Linear))]
    narrow = sum(weight.numel() for weight in weights)
    scales = sum(len(weight) for weight in weights)
    return narrow + (parameters - narrow + scales) * HALF_BYTES


def macs(network: nn.Module, image_size: int) -> int:
    """Return the multiply-accumulates for one picture of `image_size` pixels, branches merged.

    Convolutions, linear layers and attention count; norms, activations and pooling are left out, as is usual.
    """
    # A gradient keeps torch's attention out of its fast path, which the counter doesn't know.
    skeleton = _skeleton(network).requires_grad_(True)
    counter = FlopCounterMode(display=False)
    with torch.enable_grad(), counter:
        skeleton(torch.empty(1, 3, image_size, image_size, device="meta"))
    return int(counter.get_total_flops()) // 2


def _skeleton(network: nn.Module) -> nn.Module:
    """Return what is exported of a network, as shapes without values."""
    still = copy.deepcopy(network).to(device="meta")
    if isinstance(still, Classifier):
        still.auxiliary = None
    return _merged(still)


def _merged(network: nn.Module) -> nn.Module:
    network.eval()
    first = next(network.parameters(), None)
    with torch.device("cpu" if first is None else first.device), torch.no_grad():
        merged: nn.Module = reparameterize_model(network, inplace=True)
    return merged


def _folded_parameters(network: nn.Module) -> int:
    count = sum(parameter.numel() for parameter in network.parameters())
    for layer, norm in _layers_with_norm(network):
        count -= sum(parameter.numel() for parameter in norm.parameters(recurse=False))
        count += norm.num_features if layer.bias is None else 0
    return count


def _layers_with_norm(network: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Give each batch-norm that can be folded, with its layer.

    In torch, timm and torchvision it mostly is the next child of the same module; where it comes before its
    layer, as in DenseNet, the child before it is none, or has another number of channels. What Res2Net, DPN
    and NASNet keep in lists apart is missed, so that their counts are up to a fifth of a percent too high.
    """
    for parent in network.modules():
        for layer, norm in pairwise(parent.children()):
            while isinstance(layer, nn.Sequential) and len(layer) > 0:
                layer = layer[-1]
            if (
                isinstance(layer, (*CONVOLUTIONS, nn.Linear))
                and isinstance(norm, NORMS)
                and len(layer.weight) == norm.num_features
            ):
                yield layer, norm
