"""Hard sigmoid and hard swish in integers: an addition that saturates, since ONNX Runtime has no kernel.

The hard sigmoid is clip(α·x + β, 0, 1). Adding β/α to x and storing the sum in eight bits that span [0,
1/α] clips it at both ends, and reading these bits with a scale α times as large gives the hard sigmoid. So
three float nodes become one integer addition (Howard et al. 2019, arXiv 1905.02244, section 5.2, have the
activations).
"""

import numpy as np
import onnx

from hkbench.export.graph import Graph, attribute

LEVELS = 255


def split_hard_swish(model: onnx.ModelProto) -> None:
    """Write each HardSwish as x · HardSigmoid(x), as the operator is defined; the logits stay as they are."""
    Graph(model).rewrite(_split)


def _split(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    if node.op_type != "HardSwish":
        return None
    (given,), (made,) = node.input, node.output
    gate = f"{made}_gate"
    return [
        onnx.helper.make_node("HardSigmoid", [given], [gate], f"{node.name}_gate", alpha=1 / 6, beta=0.5),
        onnx.helper.make_node("Mul", [given, gate], [made], node.name),
    ]


def saturate(model: onnx.ModelProto) -> None:
    """Put saturating additions in the place of the hard sigmoids of a quantised graph."""
    graph = Graph(model)
    graph.rewrite(lambda node: _saturated(node, graph))
    graph.drop_unused()


def _saturated(node: onnx.NodeProto, graph: Graph) -> list[onnx.NodeProto] | None:
    """Return the addition for a hard sigmoid that stands between integers; None for another node."""
    if node.op_type != "HardSigmoid":
        return None
    before = graph.maker_of(node.input[0])
    after = graph.takers_of(node.output[0])
    if before is None or before.op_type != "DequantizeLinear":
        return None
    if [taker.op_type for taker in after] != ["QuantizeLinear"]:
        return None
    alpha, beta = float(attribute(node, "alpha", 0.2)), float(attribute(node, "beta", 0.5))
    (narrow,) = after
    signed = graph.constants()[narrow.input[2]].dtype == np.int8
    lowest = np.array(-128, np.int8) if signed else np.array(0, np.uint8)
    name = node.output[0]
    graph.store(f"{name}_sum_scale", np.array(1 / alpha / LEVELS, np.float32))
    graph.store(f"{name}_scale", np.array(1 / LEVELS, np.float32))
    graph.store(f"{name}_lowest", lowest)
    graph.store(f"{name}_shift", (lowest.astype(np.int16) + LEVELS).astype(lowest.dtype))
    graph.store(f"{name}_shift_scale", np.array(beta / alpha / LEVELS, np.float32))
    narrow.input[1], narrow.input[2] = f"{name}_sum_scale", f"{name}_lowest"
    for reader in graph.takers_of(narrow.output[0]):
        reader.input[1], reader.input[2] = f"{name}_scale", f"{name}_lowest"
    shift = f"{name}_shift_float"
    return [
        onnx.helper.make_node(
            "DequantizeLinear", [f"{name}_shift", f"{name}_shift_scale", f"{name}_lowest"], [shift], shift
        ),
        onnx.helper.make_node("Add", [node.input[0], shift], [name], node.name),
    ]
