"""Weight-only compression: 8-bit weights in the file, float32 once it is open."""

import copy

import numpy as np
import onnx
from numpy.typing import NDArray

from hkbench.export.graph import Graph
from hkbench.export.quantize.compact import compact

LARGEST = 127
WEIGHED = ("Conv", "Gemm", "MatMul")
SMALLEST = 64
SMALLEST_SCALE = np.float16(2**-14)
"""The least float16 that still has all its digits; weights under 127 times this are as good as zero."""


def narrow_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 file whose large weights are stored as int8 with a scale for each output channel.

    A cast and a product give the weights back; ONNX Runtime does both once, when it opens the file, and from
    then on runs what it would run of the float32 file, in as much memory.
    """
    narrow = copy.deepcopy(model)
    store_weights(narrow)
    compact(narrow)
    return narrow


def store_weights(model: onnx.ModelProto) -> None:
    """Store the float weights that a graph still has as int8, in place."""
    graph = Graph(model)
    constants = graph.constants()
    weights = {
        node.input[1]: node
        for node in graph.nodes
        if node.op_type in WEIGHED
        and node.input[1] in constants
        and constants[node.input[1]].size >= SMALLEST
    }
    made: list[onnx.NodeProto] = []
    for name, node in weights.items():
        made += _stored(graph, name, constants[name].astype(np.float32), _axis(node))
    for tensor in [each for each in graph.proto.initializer if each.name in weights]:
        graph.proto.initializer.remove(tensor)
    graph.put_first(made)


def unpacked_bytes(model: onnx.ModelProto) -> int:
    """Return the bytes of a float32 file's constants: what the weights take once a narrower file is open."""
    return sum(values.nbytes for values in Graph(model).constants().values())


def rounded_up(scale: NDArray[np.float32]) -> NDArray[np.float16]:
    """Return scales as float16, which is how they are stored, none of them less than it was."""
    near = scale.astype(np.float16)
    above: NDArray[np.float16] = np.where(near < scale, np.nextafter(near, np.float16(np.inf)), near)
    return np.maximum(above, SMALLEST_SCALE)


def _stored(graph: Graph, name: str, weight: NDArray[np.float32], axis: int) -> list[onnx.NodeProto]:
    others = tuple(place for place in range(weight.ndim) if place != axis)
    scale = rounded_up(np.abs(weight).max(axis=others, keepdims=True) / LARGEST).astype(np.float32)
    graph.store(f"{name}_narrow", np.round(weight / scale).astype(np.int8))
    graph.store(f"{name}_scale", scale)
    wide = f"{name}_wide"
    return [
        onnx.helper.make_node("Cast", [f"{name}_narrow"], [wide], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Mul", [wide, f"{name}_scale"], [name]),
    ]


def _axis(node: onnx.NodeProto) -> int:
    """Return the axis of a weight's output channels."""
    if node.op_type == "Conv":
        return 0
    transposed = any(each.name == "transB" and each.i for each in node.attribute)
    return 0 if transposed else 1
