"""A network that nothing has trained in any precision: its bytes and its latency are the trained one's."""

import numpy as np
import onnx

from hkbench.export.quantize.calibrate import FEWEST_PICTURES
from hkbench.export.quantize.conversions import CONVERSIONS
from hkbench.export.quantize.int8 import Quantizer
from hkbench.export.quantize.recipe import LAYOUTS, Recipe
from hkbench.models.counts import Precision
from hkbench.shipping.int8 import by_speed, time_layouts

TIMED_SECONDS = 0.5


def untrained(
    model: onnx.ModelProto, precision: Precision, image_size: int, *, timed: bool = True
) -> onnx.ModelProto:
    """Return an untrained float32 model in a precision; int8 in the layout that is fastest on this machine.

    Args:
        model: the float32 model; it isn't changed.
        precision: what to make of it.
        image_size: the side of its pictures.
        timed: whether layouts may be timed; without, while other work goes on, int8 takes the plain one.
    """
    if precision in CONVERSIONS:
        return CONVERSIONS[precision](model)
    shape = (FEWEST_PICTURES, 3, image_size, image_size)
    quantizer = Quantizer(model, np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    if not timed:
        return quantizer.quantized(Recipe())
    latencies = time_layouts(quantizer, model, image_size, seconds=TIMED_SECONDS)
    fastest, *_ = by_speed({layout: latencies[layout] for layout in LAYOUTS})
    return quantizer.quantized(Recipe(layout=fastest))
