"""A float graph → a static int8 graph in QDQ form, by a recipe."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from hkbench.export.graph import Graph
from hkbench.export.quantize.calibrate import ranges_of, refuse_too_few
from hkbench.export.quantize.compact import compact
from hkbench.export.quantize.hard_sigmoid import saturate, split_hard_swish
from hkbench.export.quantize.recipe import Calibrator, Recipe
from hkbench.export.quantize.stem import hold_pooling, stem_nodes
from hkbench.export.quantize.stored import WEIGHED, rounded_up, store_weights

OPERATORS = sorted({*QDQRegistry, *QLinearOpsRegistry})


class Quantizer:
    """One float file and the pictures that it is calibrated on; gives it back in int8 by any recipe.

    Args:
        model: the float32 file; it isn't changed.
        pictures: uint8 (N, 3, S, S), of the train part.

    Raises:
        UsageError: too few pictures to calibrate on.
    """

    def __init__(self, model: onnx.ModelProto, pictures: NDArray[np.uint8]) -> None:
        refuse_too_few(len(pictures))
        self.model = copy.deepcopy(model)
        split_hard_swish(self.model)
        _name_nodes(self.model)
        self.model = onnx.shape_inference.infer_shapes(self.model)
        self._pictures = pictures
        self._ranges: dict[Calibrator, Any] = {}

    def ranges(self, calibrator: Calibrator) -> Any:
        """Return what a calibrator finds on the pictures; it is asked once."""
        if calibrator not in self._ranges:
            with _quiet():
                self._ranges[calibrator] = ranges_of(self.model, self._pictures, calibrator, OPERATORS)
        return self._ranges[calibrator]

    def quantized(self, recipe: Recipe) -> onnx.ModelProto:
        """Return the int8 file of a recipe, as small as it gets."""
        model = self.readable(recipe)
        store_weights(model)
        _leave_out_zeros(model)
        compact(model)
        return model

    def layers(self) -> dict[str, str]:
        """Return the names of the nodes with weights, each with the name of its layer."""
        constants = Graph(self.model).constants()
        return {
            node.name: node.input[1].removesuffix(".weight")
            for node in self.model.graph.node
            if node.op_type in WEIGHED and len(node.input) > 1 and node.input[1] in constants
        }

    def readable(self, recipe: Recipe, *, only: tuple[str, ...] = ()) -> onnx.ModelProto:
        """Return the int8 graph with its layers' names; with `only`, just these nodes are quantised."""
        signed = recipe.layout.activations == "s8"
        with _quiet():
            quantizer = QDQQuantizer(
                copy.deepcopy(self.model),
                recipe.per_channel,
                recipe.reduce_range,
                QuantType.QInt8,
                QuantType.QInt8 if signed else QuantType.QUInt8,
                self.ranges(recipe.calibrator),
                list(only),
                list(stem_nodes(self.model)) if recipe.layout.float_stem else [],
                OPERATORS,
                # A bias stays float: ONNX Runtime rounds it to int32 when it opens the file.
                {"ActivationSymmetric": signed, "WeightSymmetric": True, "QuantizeBias": False},
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        model: onnx.ModelProto = quantizer.model.model
        _round_scales(model, Graph(self.model).constants())
        saturate(model)
        if recipe.layout.float_stem:
            hold_pooling(model)
        return model


def _name_nodes(model: onnx.ModelProto) -> None:
    """Give each node a name of its own, by which it can be left out."""
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"


def _round_scales(model: onnx.ModelProto, weights: dict[str, NDArray[Any]]) -> None:
    """Round each channel's scale up to a float16, which is how it is stored, and the weights by it anew."""
    graph = Graph(model)
    constants = graph.constants()
    for node in graph.nodes:
        weight = node.input[0].removesuffix("_quantized") if node.op_type == "DequantizeLinear" else ""
        if weight not in weights or constants[node.input[1]].ndim != 1:
            continue
        (axis,) = [each.i for each in node.attribute if each.name == "axis"]
        scale = rounded_up(constants[node.input[1]])
        shape = [-1 if place == axis else 1 for place in range(weights[weight].ndim)]
        steps = np.round(weights[weight] / scale.astype(np.float32).reshape(shape))
        graph.store(node.input[1], scale.astype(np.float32))
        graph.store(node.input[0], np.asarray(np.clip(steps, -127, 127), np.int8))


def _leave_out_zeros(model: onnx.ModelProto) -> None:
    """Leave out the zero points of convolutions' weights, which are 0, as they are where none is given.

    Those of a Gemm's stay: ONNX Runtime has no integer kernel for one without.
    """
    graph = Graph(model)
    constants = graph.constants()
    for node in graph.proto.node:
        if node.op_type != "DequantizeLinear" or len(node.input) < 3 or node.input[0] not in constants:
            continue
        readers = {reader.op_type for reader in graph.takers_of(node.output[0])}
        if readers == {"Conv"} and not constants[node.input[2]].any():
            del node.input[2]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ONNX Runtime's quantiser from logging to the root logger what its user can do nothing about."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
