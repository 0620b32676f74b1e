"""The precisions that a float32 file can be put into by itself: int8 alone needs pictures."""

from collections.abc import Callable

import onnx

from hkbench.export.quantize.half import halved
from hkbench.export.quantize.stored import narrow_weights

CONVERSIONS: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "fp32": lambda model: model,
    "fp16": halved,
    "w8": narrow_weights,
}
"""Precision → what makes a file of it; the float32 model isn't changed."""
