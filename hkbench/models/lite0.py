"""EfficientNet-Lite0, whole or cut off after some of its seven stages of blocks.

The packaged ImageNet weights come from TensorFlow, so the body is timm's `tf_` variant (its padding is
TensorFlow's "SAME", its batch-norm epsilon 1e-3) and takes pictures in about [-1, 1] rather than
ImageNet's mean and deviation. tests/models/test_models_weights.py holds that choice against the
weights' own batch-norm statistics.
"""

import timm
from timm.layers import ConvNormAct
from torch import nn

from hkbench.models.classifier import Parts, named_children, pooled_head, stages_of

MEAN = (127 / 255, 127 / 255, 127 / 255)
STD = (128 / 255, 128 / 255, 128 / 255)
STAGE_CHANNELS = (16, 24, 40, 80, 112, 192, 320)


def efficientnet_lite0(classes: int) -> Parts:
    """Build the whole network; its body ends in the 1280 channels that the ImageNet classifier saw."""
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    body = named_children(whole, "conv_stem", "bn1", "blocks", "conv_head", "bn2")
    return Parts(
        body=body,
        head=pooled_head(whole.num_features, classes, dropout=0.2),
        channels=whole.num_features,
        stages=stages_of(body),
        mean=MEAN,
        std=STD,
    )


def efficientnet_lite0_cut2(classes: int) -> Parts:
    """Build the stem and the first two stages: features at a quarter of the picture's size."""
    return _cut(2, classes, head_channels=128)


def efficientnet_lite0_cut3(classes: int) -> Parts:
    """Build the stem and the first three stages: features at an eighth of the picture's size."""
    return _cut(3, classes, head_channels=256)


def efficientnet_lite0_cut4(classes: int) -> Parts:
    """Build the stem and the first four stages: features at a sixteenth of the picture's size."""
    return _cut(4, classes, head_channels=256)


def _cut(stages: int, classes: int, *, head_channels: int) -> Parts:
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    whole.blocks = whole.blocks[:stages]
    channels = STAGE_CHANNELS[stages - 1]
    light_head = nn.Sequential(
        ConvNormAct(channels, head_channels, kernel_size=1, act_layer=nn.ReLU6),
        *pooled_head(head_channels, classes, dropout=0.1),
    )
    body = named_children(whole, "conv_stem", "bn1", "blocks")
    return Parts(
        body=body,
        head=light_head,
        channels=channels,
        stages=stages_of(body),
        mean=MEAN,
        std=STD,
    )
