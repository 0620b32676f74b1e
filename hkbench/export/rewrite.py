"""What torch's exporter leaves undone: rewrites of the float graph that give the same logits sooner."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hkbench.export.graph import Graph, attribute
from hkbench.export.session import PICTURES


def streamline(model: onnx.ModelProto) -> None:
    """Rewrite a classifier's float graph in place; its logits change by no more than rounding.

    The division by the standard deviation goes into the first convolution's weights, which padding with
    zeros allows and subtracting the mean does not. A mean over the picture becomes global pooling, for which
    runtimes have kernels in any layout and in int8. What is never read is dropped.
    """
    graph = Graph(model)
    _fold_standard_deviation(graph)
    maps = {each.name for each in graph.proto.value_info if len(each.type.tensor_type.shape.dim) == 4}
    constants = graph.constants()
    graph.rewrite(lambda node: _as_pooling(node, maps, constants))
    graph.drop_unused()


def _fold_standard_deviation(graph: Graph) -> None:
    constants = graph.constants()
    for division in graph.nodes:
        if division.op_type != "Div" or division.input[1] not in constants:
            continue
        centred = graph.maker_of(division.input[0])
        takers = graph.takers_of(division.output[0])
        if centred is None or centred.op_type != "Sub" or centred.input[0] != PICTURES:
            continue
        if not takers or any(not _reads_weights(taker, constants) for taker in takers):
            continue
        for taker in takers:
            weight = constants[taker.input[1]] / constants[division.input[1]].reshape(1, -1, 1, 1)
            name = taker.input[1]
            if len(graph.takers_of(name)) > 1:  # who shares the weights keeps them
                name = taker.input[1] = f"{name}_of_{taker.output[0]}"
            graph.store(name, weight.astype(np.float32))
            taker.input[0] = centred.output[0]


def _reads_weights(node: onnx.NodeProto, constants: dict[str, NDArray[Any]]) -> bool:
    return node.op_type == "Conv" and node.input[1] in constants and attribute(node, "group", 1) == 1


def _as_pooling(
    node: onnx.NodeProto, maps: set[str], constants: dict[str, NDArray[Any]]
) -> list[onnx.NodeProto] | None:
    """Return global pooling in place of a mean over height and width of one of the feature `maps`."""
    if node.op_type != "ReduceMean" or node.input[0] not in maps or node.input[-1] not in constants:
        return None
    if {int(axis) % 4 for axis in constants[node.input[-1]]} != {2, 3}:
        return None
    if attribute(node, "keepdims", 1):
        return [onnx.helper.make_node("GlobalAveragePool", [node.input[0]], list(node.output), node.name)]
    pooled = f"{node.output[0]}_pooled"
    return [
        onnx.helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], node.name),
        onnx.helper.make_node("Flatten", [pooled], list(node.output), f"{node.name}_flat"),
    ]
