"""The first layers of a network, where they are left in float32 while the rest computes in integers."""

import numpy as np
import onnx

from hkbench.export.graph import Graph
from hkbench.export.session import PICTURES

STEM = {"Sub", "Conv", "Relu", "Clip", "HardSigmoid", "Sigmoid", "Mul", "MaxPool", "BatchNormalization"}


def stem_nodes(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the names of the nodes before the second convolution, as far as they stand in a row."""
    graph, found, tensor = Graph(model), list[onnx.NodeProto](), PICTURES
    while takers := graph.takers_of(tensor):
        again = any(node.op_type == "Conv" for node in takers) and any(
            node.op_type == "Conv" for node in found
        )
        if again or any(node.op_type not in STEM for node in takers):
            break
        found += [node for node in takers if node not in found]
        tensor = takers[-1].output[0]
    return tuple(node.name for node in found)


def hold_pooling(model: onnx.ModelProto) -> None:
    """Keep the float stem's pooling in float: put a clip that changes nothing between it and the integers.

    ONNX Runtime would move the quantisation before the pooling, where it has a slow kernel for integers in
    the layout of the float convolution. The clip ends a quarter of a step below the greatest value that
    eight bits hold, so that what it cuts off would have been rounded to the same step.
    """
    graph = Graph(model)
    constants = graph.constants()

    def held(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        if node.op_type != "QuantizeLinear" or not _is_float_pool(graph.maker_of(node.input[0]), graph):
            return None
        zero = constants[node.input[2]]
        top = (np.iinfo(zero.dtype).max - float(zero) - 0.25) * float(constants[node.input[1]])
        name, (pooled, *parameters) = f"{node.output[0]}_held", node.input
        graph.store(f"{name}_top", np.array(top, np.float32))
        return [
            onnx.helper.make_node("Clip", [pooled, "", f"{name}_top"], [name], name),
            onnx.helper.make_node("QuantizeLinear", [name, *parameters], list(node.output), node.name),
        ]

    graph.rewrite(held)


def _is_float_pool(node: onnx.NodeProto | None, graph: Graph) -> bool:
    if node is None or node.op_type != "MaxPool":
        return False
    before = graph.maker_of(node.input[0])
    return before is not None and before.op_type != "DequantizeLinear"
