"""A float graph in float16, for GPUs: pictures and logits stay float32."""

import copy

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from hkbench.export.graph import Graph
from hkbench.export.quantize.compact import compact


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 file in float16; a CPU casts it back and is slower with it than with float32."""
    narrow: onnx.ModelProto = convert_float_to_float16(copy.deepcopy(model), keep_io_types=True)
    Graph(narrow).sort()  # a cast of the input comes after who reads it
    compact(narrow)
    return narrow
