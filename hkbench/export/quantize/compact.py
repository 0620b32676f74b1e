"""An ONNX graph in as few bytes as it takes: names, and what an operator's defaults say already, cost most.

The float vectors of a narrow graph (biases, and a scale for each channel) are kept as one vector of
float16, which a cast and a split give back; larger float tensors are cast one by one. ONNX Runtime does
that once, when it opens the file.
"""

import string

import numpy as np
import onnx

from hkbench.export.graph import Graph
from hkbench.export.session import LOGITS, PICTURES

SMALLEST_VECTOR = 8
SMALLEST_TENSOR = 64
LARGEST_HALF = float(np.finfo(np.float16).max)
DIGITS = string.digits + string.ascii_letters
SLIDING = {"Conv", "MaxPool", "AveragePool"}
UNSAID = {"strides": {1}, "dilations": {1}, "pads": {0}}
"""What a sliding window does where it isn't told; the operators' schemas don't list these."""


def compact(model: onnx.ModelProto) -> None:
    """Make a graph smaller in place; its logits change as far as float16 rounds biases and kept weights."""
    graph = Graph(model)
    opset = next(each.version for each in model.opset_import if each.domain == "")
    del graph.proto.value_info[:]
    graph.drop_unused()
    _halve(graph)
    for node in graph.proto.node:
        node.ClearField("name")
        node.ClearField("doc_string")
        _drop_defaults(node, opset)
    _share(graph)
    _shorten(graph)
    for field in ("producer_name", "producer_version", "doc_string"):
        model.ClearField(field)
    graph.proto.name = "g"


def _halve(graph: Graph) -> None:
    """Keep float constants that float16 can hold as such: vectors together, larger tensors one by one."""
    floats = {
        name: values
        for name, values in graph.constants().items()
        if values.dtype == np.float32 and np.abs(values).max(initial=0) <= LARGEST_HALF
    }
    vectors = [name for name, values in floats.items() if values.ndim == 1 and values.size >= SMALLEST_VECTOR]
    tensors = [name for name, values in floats.items() if values.ndim > 1 and values.size >= SMALLEST_TENSOR]
    made: list[onnx.NodeProto] = []
    if len(vectors) > 1:
        graph.store("packed", np.concatenate([floats[name] for name in vectors]).astype(np.float16))
        graph.store("lengths", np.array([floats[name].size for name in vectors], np.int64))
        made.append(onnx.helper.make_node("Cast", ["packed"], ["unpacked"], to=onnx.TensorProto.FLOAT))
        made.append(onnx.helper.make_node("Split", ["unpacked", "lengths"], vectors))
    for name in tensors:
        graph.store(f"{name}_half", floats[name].astype(np.float16))
        made.append(onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT))
    replaced = {name for node in made for name in node.output}
    for tensor in [each for each in graph.proto.initializer if each.name in replaced]:
        graph.proto.initializer.remove(tensor)
    graph.put_first(made)


def _drop_defaults(node: onnx.NodeProto, opset: int) -> None:
    if node.domain not in ("", "ai.onnx"):
        return
    known = onnx.defs.get_schema(node.op_type, max_inclusive_version=opset, domain="").attributes
    for each in list(node.attribute):
        default = known[each.name].default_value
        said = onnx.helper.get_attribute_value(each)
        is_default = default.name != "" and onnx.helper.get_attribute_value(default) == said
        if node.op_type in SLIDING and each.name in UNSAID:
            is_default = set(said) == UNSAID[each.name]
        if is_default or (node.op_type == "Conv" and each.name == "kernel_shape"):  # the weights tell
            node.attribute.remove(each)


def _share(graph: Graph) -> None:
    """Keep equal constants once."""
    first: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    instead: dict[str, str] = {}
    for name, values in graph.constants().items():
        instead[name] = first.setdefault((str(values.dtype), values.shape, values.tobytes()), name)
    for node in graph.proto.node:
        node.input[:] = [instead.get(name, name) for name in node.input]
    graph.drop_unused()


def _shorten(graph: Graph) -> None:
    """Give each tensor but the input and the output a name of one or two characters."""
    short = {PICTURES: PICTURES, LOGITS: LOGITS, "": ""}
    kept = len(short)

    def renamed(name: str) -> str:
        if name not in short:
            short[name] = _number(len(short) - kept)
        return short[name]

    for node in graph.proto.node:
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
    for tensor in graph.proto.initializer:
        tensor.name = renamed(tensor.name)


def _number(value: int) -> str:
    digits = DIGITS[value % len(DIGITS)]
    return digits if value < len(DIGITS) else _number(value // len(DIGITS) - 1) + digits
