"""Small questions to an ONNX graph: its constants as arrays, and which node makes or takes a tensor."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


class Graph:
    """An ONNX graph that is being rewritten in place.

    What is asked of it is looked up when it is asked, so that answers stay true while nodes change.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.proto = model.graph

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes, in an order in which they can run."""
        return list(self.proto.node)

    def constants(self) -> dict[str, NDArray[Any]]:
        """Return every stored tensor by name."""
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self.proto.initializer}

    def maker_of(self, tensor: str) -> onnx.NodeProto | None:
        """Return the node that gives a tensor; None for a constant or the input."""
        return next((node for node in self.proto.node if tensor in node.output), None)

    def takers_of(self, tensor: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a tensor."""
        return [node for node in self.proto.node if tensor in node.input]

    def store(self, name: str, values: NDArray[Any]) -> None:
        """Keep a tensor under a name, in place of what it held before."""
        made = numpy_helper.from_array(np.array(values, order="C"), name)
        for tensor in self.proto.initializer:
            if tensor.name == name:
                tensor.CopyFrom(made)
                return
        self.proto.initializer.append(made)

    def rewrite(self, replacement: Callable[[onnx.NodeProto], list[onnx.NodeProto] | None]) -> None:
        """Put what `replacement` returns in each node's place; None leaves the node."""
        found: list[onnx.NodeProto] = []
        for node in self.proto.node:
            instead = replacement(node)
            found += [node] if instead is None else instead
        self._replace(found)

    def put_first(self, made: list[onnx.NodeProto]) -> None:
        """Put nodes before all others."""
        self._replace([*made, *self.proto.node])

    def _replace(self, nodes: list[onnx.NodeProto]) -> None:
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self.proto.node[:]
        self.proto.node.extend(kept)

    def sort(self) -> None:
        """Put each node after those whose results it reads."""
        made = {name for node in self.proto.node for name in node.output}
        waiting, found, there = self.nodes, list[onnx.NodeProto](), set[str]()
        while waiting:
            ready = [node for node in waiting if there.issuperset(made.intersection(node.input))]
            found += ready
            there.update(name for node in ready for name in node.output)
            waiting = [node for node in waiting if node not in ready]
        self._replace(found)

    def drop_unused(self) -> None:
        """Drop nodes whose results nobody reads, and constants that no node reads."""
        while True:
            wanted = {name for node in self.proto.node for name in node.input}
            wanted |= {output.name for output in self.proto.output}
            dead = [node for node in self.proto.node if not wanted.intersection(node.output)]
            for node in dead:
                self.proto.node.remove(node)
            if not dead:
                break
        for tensor in [each for each in self.proto.initializer if each.name not in wanted]:
            self.proto.initializer.remove(tensor)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return an attribute's value, or `default` where the node has none of that name."""
    found = next((each for each in node.attribute if each.name == name), None)
    return default if found is None else onnx.helper.get_attribute_value(found)
