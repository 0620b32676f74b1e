"""The options of the family, and the networks of the literature that are members of it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hkbench.models.activations import activation_factory
from hkbench.models.household.blocks import BlockName
from hkbench.models.household.layouts import LayoutName

StemName = Literal["conv", "conv_pool", "patch"]
ClassifierName = Literal["linear", "conv", "hidden"]


def _known_activation(name: str) -> str:
    activation_factory(name)
    return name


class HouseholdConfig(BaseModel):
    """One member of the family. Each can take pictures of any size from 32 pixels up.

    - `layout`: channels, blocks and strides of the stages, see `LAYOUTS`.
    - `block`: what the stages are made of, see `BLOCKS`.
    - `width` multiplies every channel count, rounded to a multiple of 8.
    - `depth` multiplies the number of blocks of each stage; in the layout `household`, which has one block in
      a stage, it is that number.
    - `expansion`: inner width of an `inverted` or `ghost` block, in multiples of its input; other blocks have
      none.
    - `kernel_size` of the blocks' spatial convolutions.
    - `squeeze_excitation`: whether each block weighs its channels by a look at all of the map.
    - `stem`: "conv" is 3×3 of stride 2, "conv_pool" has 3×3 max-pooling of stride 2 after it, "patch" is 4×4
      of stride 4.
    - `activation`: a name of `ACTIVATIONS`.
    - `classifier`: "linear" pools, then one layer; "conv" is SqueezeNet's, a 1×1 convolution and ReLU to the
      classes, then pooling; "hidden" has a 1×1 convolution to the layout's `head` channels before "linear".
    - `dropout` before the classifier's last layer with weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: LayoutName = "household"
    block: BlockName = "inverted"
    width: float = Field(default=1.0, ge=0.25, le=4)
    depth: int = Field(default=1, ge=1, le=4)
    expansion: float = Field(default=3.0, ge=1, le=6)
    kernel_size: Literal[3, 5, 7] = 3
    squeeze_excitation: bool = False
    stem: StemName = "conv"
    activation: Annotated[str, AfterValidator(_known_activation)] = "relu6"
    classifier: ClassifierName = "hidden"
    dropout: float = Field(default=0.1, ge=0, lt=1)


SMALL = HouseholdConfig()
MEDIUM = HouseholdConfig(width=1.5, depth=2)

SQUEEZENET = HouseholdConfig(
    layout="squeezenet",
    block="fire",
    stem="conv_pool",
    activation="relu",
    classifier="conv",
    dropout=0.5,
)
"""SqueezeNet 1.1 with batch-norm (https://arxiv.org/abs/1602.07360)."""

MOBILENET_V1 = HouseholdConfig(layout="mobilenet_v1", block="separable", classifier="linear")
"""MobileNet (https://arxiv.org/abs/1704.04861)."""

MOBILENET_V2 = HouseholdConfig(layout="mobilenet_v2", block="inverted", expansion=6)
"""MobileNetV2 (https://arxiv.org/abs/1801.04381)."""
