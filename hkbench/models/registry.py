"""Every network that a space or a flag can name. A new one is a builder and a line in `MODELS`.

Beside these, `timm/NAME` is any classifier of timm and `torchvision/NAME` any of torchvision.
"""

from collections.abc import Callable

from hkbench.errors import UsageError, unknown
from hkbench.models import weights as published
from hkbench.models.architecture import FAMILY
from hkbench.models.baseline import baseline_cnn
from hkbench.models.classifier import Parts
from hkbench.models.cut import cut_parts
from hkbench.models.densenet import densenet121, densenet161, densenet201
from hkbench.models.entry import ModelEntry
from hkbench.models.foreign import timm_entry, torchvision_entry
from hkbench.models.household import HouseholdConfig, household, household_m, household_s
from hkbench.models.inception import inception_v3
from hkbench.models.lite0 import efficientnet_lite0
from hkbench.models.mobilenet import (
    mobilenetv1_100,
    mobilenetv2_100,
    mobilenetv3_large_100,
    mobilenetv3_small_100,
    mobilenetv4_conv_small,
    mobilenetv4_conv_small_050,
)
from hkbench.models.squeezenet import squeezenet1_0, squeezenet1_1

DENSENET = "https://arxiv.org/abs/1608.06993"
EFFICIENTNET = "https://arxiv.org/abs/1905.11946"
MOBILENET_V3 = "https://arxiv.org/abs/1905.02244"
MOBILENET_V4 = "https://arxiv.org/abs/2404.10518"
SQUEEZENET = "https://arxiv.org/abs/1602.07360"


def _lite0_cut(stages: int) -> Callable[[int], Parts]:
    """Return a builder of EfficientNet-Lite0's stem and its first `stages` stages of blocks."""
    return lambda classes: cut_parts(efficientnet_lite0(classes), stages + 1, classes)


_ENTRIES = (
    ModelEntry(
        name="baseline_cnn",
        builder=baseline_cnn,
        family="baseline",
        smallest_image_size=16,
        usual_image_size=64,
        note="plain CNN that the others are measured against",
        source="hkbench, S1",
    ),
    ModelEntry(
        name=FAMILY,
        builder=lambda classes: household(HouseholdConfig(), classes),
        family="household",
        smallest_image_size=32,
        usual_image_size=64,
        note="own family, each part of it an option",
        source="hkbench, S6",
    ),
    ModelEntry(
        name="household_s",
        builder=household_s,
        family="household",
        smallest_image_size=32,
        usual_image_size=64,
        note="own family, under 250 kB",
        source="hkbench, S6",
    ),
    ModelEntry(
        name="household_m",
        builder=household_m,
        family="household",
        smallest_image_size=32,
        usual_image_size=64,
        note="own family, under 1 MB",
        source="hkbench, S6",
    ),
    ModelEntry(
        name="densenet121",
        builder=densenet121,
        family="densenet",
        smallest_image_size=32,
        imagenet=published.DENSENET121,
        translate=published.DENSENET_KEYS,
        note="DenseNet-121, the study's teacher",
        source=DENSENET,
    ),
    ModelEntry(
        name="densenet161",
        builder=densenet161,
        family="densenet",
        smallest_image_size=32,
        imagenet=published.DENSENET161,
        translate=published.DENSENET_KEYS,
        note="DenseNet-161",
        source=DENSENET,
    ),
    ModelEntry(
        name="densenet201",
        builder=densenet201,
        family="densenet",
        smallest_image_size=32,
        imagenet=published.DENSENET201,
        translate=published.DENSENET_KEYS,
        note="DenseNet-201",
        source=DENSENET,
    ),
    ModelEntry(
        name="inception_v3",
        builder=inception_v3,
        family="inception",
        smallest_image_size=75,
        usual_image_size=299,
        imagenet=published.INCEPTION_V3,
        note="Inception V3; its auxiliary head trains along where pictures are large enough",
        source="https://arxiv.org/abs/1512.00567",
    ),
    ModelEntry(
        name="squeezenet1_0",
        builder=squeezenet1_0,
        family="squeezenet",
        smallest_image_size=32,
        imagenet=published.SQUEEZENET1_0,
        translate=published.FEATURES_KEYS,
        note="SqueezeNet 1.0",
        source=SQUEEZENET,
    ),
    ModelEntry(
        name="squeezenet1_1",
        builder=squeezenet1_1,
        family="squeezenet",
        smallest_image_size=32,
        imagenet=published.SQUEEZENET1_1,
        translate=published.FEATURES_KEYS,
        note="SqueezeNet 1.1, the study's student",
        source=SQUEEZENET,
    ),
    ModelEntry(
        name="mobilenetv1_100",
        builder=mobilenetv1_100,
        family="mobilenet",
        smallest_image_size=32,
        imagenet=published.MOBILENETV1_100,
        note="MobileNet",
        source="https://arxiv.org/abs/1704.04861",
    ),
    ModelEntry(
        name="mobilenetv2_100",
        builder=mobilenetv2_100,
        family="mobilenet",
        smallest_image_size=32,
        imagenet=published.MOBILENETV2_100,
        note="MobileNetV2",
        source="https://arxiv.org/abs/1801.04381",
    ),
    ModelEntry(
        name="mobilenetv3_small_100",
        builder=mobilenetv3_small_100,
        family="mobilenet",
        smallest_image_size=32,
        imagenet=published.MOBILENETV3_SMALL_100,
        note="MobileNetV3 small",
        source=MOBILENET_V3,
    ),
    ModelEntry(
        name="mobilenetv3_large_100",
        builder=mobilenetv3_large_100,
        family="mobilenet",
        smallest_image_size=32,
        imagenet=published.MOBILENETV3_LARGE_100,
        note="MobileNetV3 large",
        source=MOBILENET_V3,
    ),
    ModelEntry(
        name="mobilenetv4_conv_small",
        builder=mobilenetv4_conv_small,
        family="mobilenet",
        smallest_image_size=32,
        imagenet=published.MOBILENETV4_CONV_SMALL,
        note="MobileNetV4 small",
        source=MOBILENET_V4,
    ),
    ModelEntry(
        name="mobilenetv4_conv_small_050",
        builder=mobilenetv4_conv_small_050,
        family="mobilenet",
        smallest_image_size=32,
        imagenet=published.MOBILENETV4_CONV_SMALL_050,
        note="MobileNetV4 small at half width",
        source=MOBILENET_V4,
    ),
    ModelEntry(
        name="efficientnet_lite0",
        builder=efficientnet_lite0,
        family="efficientnet",
        smallest_image_size=32,
        imagenet=published.EFFICIENTNET_LITE0,
        translate=published.LITE0_KEYS,
        note="EfficientNet-Lite0, whole",
        source=EFFICIENTNET,
    ),
    *(
        ModelEntry(
            name=f"efficientnet_lite0_cut{stages}",
            builder=_lite0_cut(stages),
            family="efficientnet_cut",
            smallest_image_size=32,
            imagenet=published.EFFICIENTNET_LITE0,
            translate=published.LITE0_KEYS,
            note=f"stem and first {stages} stages of EfficientNet-Lite0, light head",
            source=EFFICIENTNET,
        )
        for stages in (2, 3, 4)
    ),
)

MODELS: dict[str, ModelEntry] = {entry.name: entry for entry in _ENTRIES}

LIBRARIES: dict[str, Callable[[str, int], ModelEntry]] = {
    "timm/": timm_entry,
    "torchvision/": torchvision_entry,
}
"""Prefix → what makes an entry of any of the library's classifiers, by its full name and the picture edge."""


def entry_of(name: str, image_size: int = 64) -> ModelEntry:
    """Return the entry of a network by name; `image_size` matters to those that are built for one.

    Raises:
        UsageError: there is no such network.
    """
    if name in MODELS:
        return MODELS[name]
    for prefix, entry in LIBRARIES.items():
        if name.startswith(prefix):
            return entry(name, image_size)
    raise UsageError(
        f"{unknown('model', name, MODELS)} Any of timm's is timm/NAME, any of torchvision's torchvision/NAME."
    )
