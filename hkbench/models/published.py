"""Networks that others published, cut into body and head."""

import timm
from torch import nn
from torchvision.models import densenet121 as torchvision_densenet121
from torchvision.models import squeezenet1_1 as torchvision_squeezenet1_1

from hkbench.models.classifier import Parts, global_pool, named_children, pooled_head, stages_of

SQUEEZENET_CHANNELS = 512
SQUEEZENET_POOLS = (2, 5, 8)
"""Where in torchvision's `features` a stage of SqueezeNet 1.1 ends, but for the last."""
HALF = (0.5, 0.5, 0.5)


def squeezenet1_1(classes: int) -> Parts:
    """Build SqueezeNet 1.1 with its own kind of head: a 1×1 convolution to the classes, then pooling."""
    whole = torchvision_squeezenet1_1(weights=None, num_classes=classes)
    return Parts(
        body=whole.features,
        head=nn.Sequential(*whole.classifier[:3], global_pool()),
        channels=SQUEEZENET_CHANNELS,
        stages=_between(SQUEEZENET_POOLS, len(whole.features)),
    )


def densenet121(classes: int) -> Parts:
    """Build DenseNet-121, the study's teacher; its body ends in the 1024 channels after the last ReLU."""
    whole = torchvision_densenet121(weights=None)
    body = whole.features
    body.add_module("relu5", nn.ReLU(inplace=True))  # a function in torchvision's forward
    blocks = [(f"denseblock{number}", f"transition{number}") for number in (1, 2, 3)]
    return Parts(
        body=body,
        head=pooled_head(whole.classifier.in_features, classes, dropout=0.0),
        channels=whole.classifier.in_features,
        stages=(("conv0", "norm0", "relu0", "pool0"), *blocks, ("denseblock4", "norm5", "relu5")),
    )


def mobilenetv4_conv_small_050(classes: int) -> Parts:
    """Build MobileNetV4's half-width small network; its body ends in the pooled 1280 channels."""
    whole = timm.create_model("mobilenetv4_conv_small_050", pretrained=False, global_pool="fast")
    body = named_children(whole, "conv_stem", "bn1", "blocks", "global_pool", "conv_head", "norm_head")
    return Parts(
        body=body,
        head=pooled_head(whole.head_hidden_size, classes, dropout=0.2),
        channels=whole.head_hidden_size,
        stages=stages_of(body),
        mean=HALF,
        std=HALF,
    )


def _between(ends: tuple[int, ...], modules: int) -> tuple[tuple[str, ...], ...]:
    """Return the numbers 0 to `modules` as names, in groups that each end at one of `ends`."""
    starts = (0, *(end + 1 for end in ends))
    stops = (*(end + 1 for end in ends), modules)
    return tuple(tuple(map(str, range(start, stop))) for start, stop in zip(starts, stops, strict=True))
