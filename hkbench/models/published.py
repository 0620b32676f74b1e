"""Networks that others published, cut into body and head."""

import timm
from torch import nn
from torchvision.models import squeezenet1_1 as torchvision_squeezenet1_1

from hkbench.models.classifier import Parts, global_pool, named_children, pooled_head

SQUEEZENET_CHANNELS = 512
HALF = (0.5, 0.5, 0.5)


def squeezenet1_1(classes: int) -> Parts:
    """Build SqueezeNet 1.1 with its own kind of head: a 1×1 convolution to the classes, then pooling."""
    whole = torchvision_squeezenet1_1(weights=None, num_classes=classes)
    return Parts(
        body=whole.features,
        head=nn.Sequential(*whole.classifier[:3], global_pool()),
        channels=SQUEEZENET_CHANNELS,
    )


def mobilenetv4_conv_small_050(classes: int) -> Parts:
    """Build MobileNetV4's half-width small network; its body ends in the pooled 1280 channels."""
    whole = timm.create_model("mobilenetv4_conv_small_050", pretrained=False, global_pool="fast")
    return Parts(
        body=named_children(whole, "conv_stem", "bn1", "blocks", "global_pool", "conv_head", "norm_head"),
        head=pooled_head(whole.head_hidden_size, classes, dropout=0.2),
        channels=whole.head_hidden_size,
        mean=HALF,
        std=HALF,
    )
