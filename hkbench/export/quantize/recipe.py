"""How a file is quantised to int8, and which ways are worth trying."""

from dataclasses import asdict, dataclass
from itertools import product
from typing import Literal

Activations = Literal["u8", "s8"]
Calibrator = Literal["minmax", "percentile", "entropy"]
CALIBRATORS: tuple[Calibrator, ...] = ("minmax", "percentile", "entropy")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What decides how fast an int8 file is, whatever its numbers.

    `activations` are unsigned with a zero point of their own (u8) or signed around zero (s8); weights are
    always int8. `float_stem` leaves everything before the second convolution in float32: three channels are
    too few for the integer kernels of some processors.
    """

    activations: Activations = "u8"
    float_stem: bool = False

    @property
    def label(self) -> str:
        """The layout in a few words, such as `U8S8, float stem`."""
        return f"{self.activations.upper()}S8" + (", float stem" if self.float_stem else "")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole way to quantise: its layout, and how the numbers are chosen.

    `per_channel` gives each output channel of a weight a scale of its own. `reduce_range` keeps weights to
    seven bits: without VNNI, sums of two products saturate at sixteen. `calibrator` finds the ranges of the
    activations on pictures: the least and the greatest value, the 99.99th percentile, or the range that loses
    least entropy.
    """

    layout: Layout = Layout()
    per_channel: bool = True
    reduce_range: bool = False
    calibrator: Calibrator = "minmax"

    @property
    def label(self) -> str:
        """The recipe in a few words, such as `U8S8, per channel, minmax`."""
        words = [self.layout.label, "per channel" if self.per_channel else "per tensor"]
        return ", ".join([*words, *(["7 bits"] if self.reduce_range else []), self.calibrator])

    def described(self) -> dict[str, object]:
        """Return the recipe as a record keeps it."""
        own = {name: value for name, value in asdict(self).items() if name != "layout"}
        return asdict(self.layout) | own


KINDS: tuple[Activations, ...] = ("u8", "s8")
LAYOUTS = tuple(
    Layout(activations=kind, float_stem=float_stem) for kind, float_stem in product(KINDS, (False, True))
)


def recipes_of(layout: Layout) -> list[Recipe]:
    """Return the recipes of a layout that are worth trying, the likeliest first."""
    ranges = (False, True) if layout.activations == "u8" else (False,)  # only u8 · s8 can saturate
    return [
        Recipe(layout=layout, per_channel=per_channel, reduce_range=reduce_range, calibrator=calibrator)
        for per_channel, reduce_range, calibrator in product((True, False), ranges, CALIBRATORS)
    ]
