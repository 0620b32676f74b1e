"""Where a network of the family has how many channels: its own layout, and those of the literature."""

from dataclasses import dataclass
from typing import Literal

LayoutName = Literal["household", "squeezenet", "mobilenet_v1", "mobilenet_v2"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Blocks in a row that give `channels`; the first one has the `stride`.

    `expansion` is the inner width of its blocks where the layout fixes it, else the network's option holds.
    """

    channels: int
    blocks: int = 1
    stride: int = 2
    expansion: float | None = None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Channels of the stem, the stages, and channels of the hidden layer before the classifier, if any.

    All are multiples of 8, so that a width of 1 leaves them as they are.
    """

    stem: int
    stages: tuple[Stage, ...]
    head: int


LAYOUTS: dict[LayoutName, Layout] = {
    "household": Layout(
        stem=16,
        stages=(Stage(channels=24), Stage(channels=40), Stage(channels=64)),
        head=96,
    ),
    # Version 1.1 of https://arxiv.org/abs/1602.07360, for `fire` blocks.
    "squeezenet": Layout(
        stem=64,
        stages=(
            Stage(channels=128, blocks=2, stride=1),
            Stage(channels=256, blocks=2),
            Stage(channels=384, blocks=2),
            Stage(channels=512, blocks=2, stride=1),
        ),
        head=512,
    ),
    # https://arxiv.org/abs/1704.04861, table 1, for `separable` blocks.
    "mobilenet_v1": Layout(
        stem=32,
        stages=(
            Stage(channels=64, stride=1),
            Stage(channels=128, blocks=2),
            Stage(channels=256, blocks=2),
            Stage(channels=512, blocks=6),
            Stage(channels=1024, blocks=2),
        ),
        head=1024,
    ),
    # https://arxiv.org/abs/1801.04381, table 2, for `inverted` blocks.
    "mobilenet_v2": Layout(
        stem=32,
        stages=(
            Stage(channels=16, stride=1, expansion=1),
            Stage(channels=24, blocks=2),
            Stage(channels=32, blocks=3),
            Stage(channels=64, blocks=4),
            Stage(channels=96, blocks=3, stride=1),
            Stage(channels=160, blocks=3),
            Stage(channels=320, stride=1),
        ),
        head=1280,
    ),
}
