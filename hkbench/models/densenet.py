"""DenseNets (Huang et al. 2017, https://arxiv.org/abs/1608.06993, table 1), built by torchvision."""

from torch import nn
from torchvision import models

from hkbench.models.classifier import Parts, pooled_head


def densenet121(classes: int) -> Parts:
    """Build DenseNet-121, the study's teacher; its body ends in 1024 channels."""
    return _parts(models.densenet121(weights=None), classes)


def densenet161(classes: int) -> Parts:
    """Build DenseNet-161, the widest; its body ends in 2208 channels."""
    return _parts(models.densenet161(weights=None), classes)


def densenet201(classes: int) -> Parts:
    """Build DenseNet-201, the deepest; its body ends in 1920 channels."""
    return _parts(models.densenet201(weights=None), classes)


def _parts(whole: models.DenseNet, classes: int) -> Parts:
    body = whole.features
    body.add_module("relu5", nn.ReLU(inplace=True))  # a function in torchvision's forward
    blocks = [(f"denseblock{number}", f"transition{number}") for number in (1, 2, 3)]
    return Parts(
        body=body,
        head=pooled_head(whole.classifier.in_features, classes, dropout=0.0),
        channels=whole.classifier.in_features,
        stages=(("conv0", "norm0", "relu0", "pool0"), *blocks, ("denseblock4", "norm5", "relu5")),
    )
