"""EfficientNet-Lite0.

The packaged ImageNet weights come from TensorFlow, so the body is timm's `tf_` variant (its padding is
TensorFlow's "SAME", its batch-norm epsilon 1e-3) and takes pictures in about [-1, 1] rather than
ImageNet's mean and deviation. tests/models/test_models_weights.py holds that choice against the
weights' own batch-norm statistics.
"""

import timm

from hkbench.models.classifier import Parts, named_children, pooled_head, stages_of

MEAN = (127 / 255, 127 / 255, 127 / 255)
STD = (128 / 255, 128 / 255, 128 / 255)


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
