"""Inception V3 (Szegedy et al. 2015, https://arxiv.org/abs/1512.00567), built by timm."""

import timm
from torch import nn

from hkbench.models.classifier import Auxiliary, Parts, named_children, pooled_head

STAGES = (
    ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Pool1"),
    ("Conv2d_3b_1x1", "Conv2d_4a_3x3", "Pool2"),
    ("Mixed_5b", "Mixed_5c", "Mixed_5d"),
    ("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
)
AUXILIARY_STAGES = 4
AUXILIARY_WEIGHT = 0.4
"""The authors' own training code adds the auxiliary loss so; the paper leaves its weight out."""
AUXILIARY_SMALLEST_IMAGE_SIZE = 299
HALF = (0.5, 0.5, 0.5)


def inception_v3(classes: int) -> Parts:
    """Build Inception V3 with its auxiliary head on the last 17×17 map (section 4); 2048 channels at the end.

    Its weights were trained on pictures in [-1, 1].
    """
    whole = timm.create_model("inception_v3", pretrained=False, num_classes=classes, aux_logits=True)
    _initialise(whole)
    return Parts(
        body=named_children(whole, *(name for stage in STAGES for name in stage)),
        head=pooled_head(whole.num_features, classes, dropout=0.5),
        channels=whole.num_features,
        stages=STAGES,
        auxiliary=Auxiliary(
            head=whole.AuxLogits,
            after=AUXILIARY_STAGES,
            weight=AUXILIARY_WEIGHT,
            smallest_image_size=AUXILIARY_SMALLEST_IMAGE_SIZE,
        ),
        mean=HALF,
        std=HALF,
    )


def _initialise(network: nn.Module) -> None:
    """Draw the convolutions' weights as He et al. 2015 do (https://arxiv.org/abs/1502.01852, equation 10).

    timm gives all of them a deviation of 0.1. The untrained network, whose batch-norms let everything
    through, then makes logits of 10⁷ in evaluation, which no export can be checked with.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
