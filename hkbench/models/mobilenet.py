"""MobileNets, built by timm.

V1: Howard et al. 2017, https://arxiv.org/abs/1704.04861. V2: Sandler et al. 2018,
https://arxiv.org/abs/1801.04381. V3: Howard et al. 2019, https://arxiv.org/abs/1905.02244. V4: Qin et al.
2024, https://arxiv.org/abs/2404.10518. From V3 on the last convolution comes after pooling, so these bodies
end in a map of one pixel.
"""

import timm

from hkbench.models.classifier import Parts, named_children, pooled_head, stages_of

STEM = ("conv_stem", "bn1", "blocks")


def mobilenetv1_100(classes: int) -> Parts:
    """Build MobileNet; its body ends in 1024 channels."""
    return _parts("mobilenetv1_100", classes, *STEM)


def mobilenetv2_100(classes: int) -> Parts:
    """Build MobileNetV2; its body ends in 1280 channels."""
    return _parts("mobilenetv2_100", classes, *STEM, "conv_head", "bn2")


def mobilenetv3_small_100(classes: int) -> Parts:
    """Build the small MobileNetV3; its body ends in 1024 pooled channels."""
    return _parts("mobilenetv3_small_100", classes, *STEM, "global_pool", "conv_head", "act2")


def mobilenetv3_large_100(classes: int) -> Parts:
    """Build the large MobileNetV3; its body ends in 1280 pooled channels."""
    return _parts("mobilenetv3_large_100", classes, *STEM, "global_pool", "conv_head", "act2")


def mobilenetv4_conv_small(classes: int) -> Parts:
    """Build the small MobileNetV4; its body ends in 1280 pooled channels."""
    return _parts("mobilenetv4_conv_small", classes, *STEM, "global_pool", "conv_head", "norm_head")


def mobilenetv4_conv_small_050(classes: int) -> Parts:
    """Build the small MobileNetV4 at half width; its body ends in 1280 pooled channels."""
    return _parts("mobilenetv4_conv_small_050", classes, *STEM, "global_pool", "conv_head", "norm_head")


def _parts(name: str, classes: int, *modules: str) -> Parts:
    whole = timm.create_model(name, pretrained=False, global_pool="fast")
    body = named_children(whole, *modules)
    config = timm.get_pretrained_cfg(name)
    return Parts(
        body=body,
        head=pooled_head(whole.head_hidden_size, classes, dropout=0.2),
        channels=whole.head_hidden_size,
        stages=stages_of(body),
        mean=config.mean,
        std=config.std,
    )
