"""SqueezeNets (Iandola et al. 2016, https://arxiv.org/abs/1602.07360), built by torchvision."""

from torch import nn
from torchvision import models

from hkbench.models.classifier import Parts, global_pool

CHANNELS = 512


def squeezenet1_0(classes: int) -> Parts:
    """Build SqueezeNet 1.0, the paper's."""
    return _parts(models.squeezenet1_0(weights=None, num_classes=classes))


def squeezenet1_1(classes: int) -> Parts:
    """Build SqueezeNet 1.1, which pools earlier and so takes 2.4 times less computation."""
    return _parts(models.squeezenet1_1(weights=None, num_classes=classes))


def _parts(whole: models.SqueezeNet) -> Parts:
    """Keep its own kind of head: a 1×1 convolution to the classes, then pooling."""
    return Parts(
        body=whole.features,
        head=nn.Sequential(*whole.classifier[:3], global_pool()),
        channels=CHANNELS,
        stages=_up_to_pools(whole.features),
    )


def _up_to_pools(features: nn.Sequential) -> tuple[tuple[str, ...], ...]:
    """Return the names of the layers in groups that each end in a pooling layer, but for the last."""
    stages: list[list[str]] = [[]]
    for name, module in features.named_children():
        stages[-1].append(name)
        if isinstance(module, nn.MaxPool2d):
            stages.append([])
    return tuple(tuple(stage) for stage in stages)
