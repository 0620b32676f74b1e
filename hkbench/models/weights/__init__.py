"""Weights that others published: where a file lies or comes from, and how it fills a network's body.

May import config, errors and the parent room's activations and classifier.
"""

from hkbench.models.weights.files import (
    DENSENET121,
    DENSENET161,
    DENSENET201,
    DENSENET_KEYS,
    EFFICIENTNET_LITE0,
    FEATURES_KEYS,
    INCEPTION_V3,
    LITE0_KEYS,
    MOBILENETV1_100,
    MOBILENETV2_100,
    MOBILENETV3_LARGE_100,
    MOBILENETV3_SMALL_100,
    MOBILENETV4_CONV_SMALL,
    MOBILENETV4_CONV_SMALL_050,
    SQUEEZENET1_0,
    SQUEEZENET1_1,
    densenet_key,
    lite0_key,
    timm_weights,
    torchvision_weights,
)
from hkbench.models.weights.load import load_weights
from hkbench.models.weights.origin import Download, HubFile, Packaged
from hkbench.models.weights.published import PublishedWeights, Translate, read, renaming, unchanged

__all__ = [
    "DENSENET121",
    "DENSENET161",
    "DENSENET201",
    "DENSENET_KEYS",
    "EFFICIENTNET_LITE0",
    "FEATURES_KEYS",
    "INCEPTION_V3",
    "LITE0_KEYS",
    "MOBILENETV1_100",
    "MOBILENETV2_100",
    "MOBILENETV3_LARGE_100",
    "MOBILENETV3_SMALL_100",
    "MOBILENETV4_CONV_SMALL",
    "MOBILENETV4_CONV_SMALL_050",
    "SQUEEZENET1_0",
    "SQUEEZENET1_1",
    "Download",
    "HubFile",
    "Packaged",
    "PublishedWeights",
    "Translate",
    "densenet_key",
    "lite0_key",
    "load_weights",
    "read",
    "renaming",
    "timm_weights",
    "torchvision_weights",
    "unchanged",
]
