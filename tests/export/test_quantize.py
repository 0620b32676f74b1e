"""Narrow files: valid, with the float file's answers, and in the operators that ONNX Runtime is fast with."""

import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from taught import (
    COUNT,
    NAMES,
    crops,
    float_content,
    float_file,
    logits_of,
    operators,
    optimised,
)

from hkbench.errors import UsageError
from hkbench.export.graph import Graph
from hkbench.export.onnx import content_of
from hkbench.export.quantize import int8
from hkbench.export.quantize.calibrate import FEWEST_PICTURES
from hkbench.export.quantize.half import halved
from hkbench.export.quantize.hard_sigmoid import saturate, split_hard_swish
from hkbench.export.quantize.int8 import Quantizer
from hkbench.export.quantize.recipe import CALIBRATORS, LAYOUTS, Layout, Recipe, recipes_of
from hkbench.export.quantize.stored import narrow_weights, unpacked_bytes
from hkbench.export.session import open_session

LEVELS = 255
INTEGER = {"U8S8": Layout(), "U8S8, float stem": Layout(float_stem=True)}
"""The layouts that ONNX Runtime fuses on any processor."""
quantizers: dict[str, Quantizer] = {}


def quantizer_of(name: str) -> Quantizer:
    """Return the network's quantiser; its ranges are found once."""
    if name not in quantizers:
        quantizers[name] = Quantizer(float_file(name), crops())
    return quantizers[name]


def agreement(model, name: str) -> float:
    """Return the share of pictures that a file answers as the float file does."""
    expected = logits_of(float_file(name)).argmax(axis=1)
    return float((logits_of(model).argmax(axis=1) == expected).mean())


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.label)
@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_gives_a_valid_file_with_the_same_answers(name: str, layout: Layout):
    for recipe in recipes_of(layout):
        model = quantizer_of(name).quantized(recipe)
        onnx.checker.check_model(model, full_check=True)
        assert agreement(model, name) > 0.9, recipe.label
        assert len(content_of(model)) < 0.45 * len(float_content(name)), recipe.label


def test_each_layout_has_recipes_of_its_own():
    labels = [recipe.label for layout in LAYOUTS for recipe in recipes_of(layout)]
    assert len(set(labels)) == len(labels) == 36
    assert not any("S8S8" in label and "7 bits" in label for label in labels)
    assert {recipe.calibrator for recipe in recipes_of(Layout())} == set(CALIBRATORS)
    assert Recipe().described() == {
        "activations": "u8",
        "float_stem": False,
        "per_channel": True,
        "reduce_range": False,
        "calibrator": "minmax",
    }


def test_equal_recipes_make_equal_bytes_and_leave_the_float_file():
    model = float_file("household_s")
    first = Quantizer(model, crops()).quantized(Recipe())
    assert content_of(model) == float_content("household_s")
    assert content_of(Quantizer(model, crops()).quantized(Recipe())) == content_of(first)


def test_a_file_takes_any_batch():
    model = quantizer_of("household_s").quantized(Recipe())
    singly, together = logits_of(model, batch=1), logits_of(model, batch=COUNT)
    assert (singly.argmax(axis=1) == together.argmax(axis=1)).mean() > 0.98


def test_weights_are_seven_bits_where_that_is_asked():
    for reduced, most in ((False, 127), (True, 64)):
        recipe = Recipe(reduce_range=reduced)
        constants = Graph(quantizer_of("baseline_cnn").readable(recipe)).constants()
        weights = [values for values in constants.values() if values.dtype == np.int8 and values.ndim == 4]
        assert weights
        assert most / 2 < max(np.abs(values.astype(int)).max() for values in weights) <= most


def test_too_few_pictures_are_refused():
    wanted = rf"at least {FEWEST_PICTURES} training pictures.*found {FEWEST_PICTURES - 1}.*Take fp32"
    with pytest.raises(UsageError, match=wanted):
        Quantizer(float_file("household_s"), crops()[: FEWEST_PICTURES - 1])


def test_calibrating_and_quantising_are_quiet(capfd, caplog):
    quantizer = Quantizer(float_file("household_s"), crops())
    level = logging.getLogger().level
    for calibrator in CALIBRATORS:
        quantizer.quantized(Recipe(calibrator=calibrator))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert logging.getLogger().level == level


def test_layers_go_by_the_network_s_names():
    layers = quantizer_of("baseline_cnn").layers()
    assert list(layers.values()) == ["body.0", "body.4", "body.8", "body.12", "head.1", "head.4"]


def test_one_layer_alone_can_be_quantised():
    quantizer = quantizer_of("baseline_cnn")
    node = next(node for node, layer in quantizer.layers().items() if layer == "body.4")
    model = quantizer.readable(Recipe(), only=(node,))
    onnx.checker.check_model(model, full_check=True)
    narrow = [
        name
        for name, values in Graph(model).constants().items()
        if values.dtype == np.int8 and values.ndim == 4
    ]
    assert narrow == ["body.4.weight_quantized"]
    assert agreement(model, "baseline_cnn") > 0.9


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize(("alpha", "beta"), [(1 / 6, 0.5), (0.2, 0.5), (0.25, 0.1)])
def test_the_saturating_addition_is_the_hard_sigmoid_to_a_step(kind, alpha: float, beta: float):
    """At each level that eight bits have."""
    info = np.iinfo(kind)
    zero, scale = np.array((int(info.min) + int(info.max)) // 2, kind), np.array(9 / 127, np.float32)
    levels = np.arange(info.min, info.max + 1)
    given = ((levels - int(zero)) * scale).astype(np.float32).reshape(1, 1, 16, 16)
    low = np.array(info.min, kind)
    plain = _between_integers(
        helper.make_node("HardSigmoid", ["x"], ["y"], alpha=alpha, beta=beta), scale, zero, low
    )
    integer = onnx.ModelProto.FromString(plain.SerializeToString())
    saturate(integer)
    onnx.checker.check_model(integer, full_check=True)
    assert "HardSigmoid" not in operators(integer)
    expected = np.clip(alpha * given + beta, 0, 1)
    for model in (plain, integer):
        found = _run(model, given)
        assert np.abs(found - expected).max() <= 1.01 / LEVELS
    assert np.abs(_run(integer, given) - _run(plain, given)).max() <= 1.01 / LEVELS


def _between_integers(node, scale, zero, low):
    """Return a node between integers, as the quantiser writes it: from `pictures` to `logits`."""
    constants = {"scale": scale, "zero": zero, "step": np.array(1 / LEVELS, np.float32), "low": low}
    nodes = [
        helper.make_node("QuantizeLinear", ["pictures", "scale", "zero"], ["narrow"]),
        helper.make_node("DequantizeLinear", ["narrow", "scale", "zero"], ["x"]),
        node,
        helper.make_node("QuantizeLinear", ["y", "step", "low"], ["z"]),
        helper.make_node("DequantizeLinear", ["z", "step", "low"], ["logits"]),
    ]
    sides = ["batch", 1, 16, 16]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, sides)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _run(model, given):
    session = open_session(content_of(model), threads=1)
    return session.run(["logits"], {"pictures": given})[0]


def test_a_hard_sigmoid_between_floats_stays():
    model = float_file("hard")
    before = operators(model).count("HardSigmoid")
    assert before
    saturate(model)
    assert operators(model).count("HardSigmoid") == before


def test_hard_swish_is_split_without_a_change():
    model = float_file("hard")
    expected = logits_of(model)
    split_hard_swish(model)
    assert "HardSwish" not in operators(model)
    np.testing.assert_allclose(logits_of(model), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.label)
def test_integer_hard_swish_is_as_near_to_float_as_the_plain_form(layout: Layout, monkeypatch):
    quantizer, recipe = quantizer_of("hard"), Recipe(layout=layout)
    integer = logits_of(quantizer.quantized(recipe))
    monkeypatch.setattr(int8, "saturate", lambda _: None)
    plain = logits_of(quantizer.quantized(recipe))
    expected = logits_of(float_file("hard"))
    assert (integer.argmax(axis=1) == plain.argmax(axis=1)).mean() > 0.95
    assert np.abs(integer - expected).mean() < 1.5 * np.abs(plain - expected).mean() + 1e-3 * np.ptp(expected)


@pytest.mark.parametrize("layout", INTEGER.values(), ids=INTEGER)
def test_hard_swish_runs_in_integers(layout: Layout, tmp_path):
    found = operators(optimised(quantizer_of("hard").quantized(Recipe(layout=layout)), tmp_path))
    assert {"QLinearAdd", "QLinearMul", "QLinearConv"} <= set(found)
    in_stem = int(layout.float_stem)
    assert found.count("HardSigmoid") == in_stem
    assert not {"Add", "HardSwish", "GlobalAveragePool"} & set(found)


@pytest.mark.parametrize("kind", ["u8", "s8"])
def test_the_float_stem_s_convolution_and_pooling_stay_float(kind, tmp_path):
    recipe = Recipe(layout=Layout(activations=kind, float_stem=True))
    graph = Graph(optimised(quantizer_of("baseline_cnn").quantized(recipe), tmp_path))
    (convolution,) = [node for node in graph.nodes if node.op_type in ("Conv", "FusedConv")]
    pools = [
        node
        for node in graph.nodes
        if node.op_type == "MaxPool" and graph.maker_of(node.input[0]) == convolution
    ]
    assert len(pools) == 1
    assert [node.op_type for node in graph.takers_of(convolution.output[0])] == ["MaxPool"]
    assert sum(node.op_type == "QLinearConv" for node in graph.nodes) == 3


def test_without_a_float_stem_no_convolution_is_float(tmp_path):
    found = operators(optimised(quantizer_of("baseline_cnn").quantized(Recipe()), tmp_path))
    assert not {"Conv", "FusedConv", "Relu", "Gemm"} & set(found)
    assert found.count("QLinearConv") == 4


@pytest.mark.parametrize("tiny", [0.0, 1e-9, 1e-6, 1e-4])
def test_a_channel_with_tiny_weights_gives_numbers(tiny: float):
    """Its scale is below what float16 has."""
    model = float_file("baseline_cnn")
    graph = Graph(model)
    changed = graph.constants()["body.4.weight"].copy()
    changed[0] *= tiny
    graph.store("body.4.weight", changed)
    expected = logits_of(model)
    quantizer = Quantizer(model, crops())
    for layout in LAYOUTS:
        found = logits_of(quantizer.quantized(Recipe(layout=layout)))
        assert np.isfinite(found).all()
        assert np.abs(found - expected).max() < 0.1 * np.ptp(expected)
    stored = logits_of(narrow_weights(model))
    assert np.abs(stored - expected).max() < 0.05 * np.ptp(expected)


@pytest.mark.parametrize("name", ["household_s", "baseline_cnn"])
def test_float16_takes_and_gives_float32(name: str):
    model = halved(float_file(name))
    sides = [each.type.tensor_type.elem_type for each in (*model.graph.input, *model.graph.output)]
    assert sides == [TensorProto.FLOAT, TensorProto.FLOAT]
    assert [each.name for each in (*model.graph.input, *model.graph.output)] == ["pictures", "logits"]
    weights = [values for values in Graph(model).constants().values() if values.ndim == 4]
    assert weights
    assert {values.dtype for values in weights} == {np.dtype(np.float16)}
    expected = logits_of(float_file(name))
    assert np.abs(logits_of(model) - expected).max() < 0.01 * np.ptp(expected)
    assert len(content_of(model)) < 0.56 * len(float_content(name))


def test_a_float16_file_is_valid():
    onnx.checker.check_model(halved(float_file("baseline_cnn")), full_check=True)


@pytest.mark.parametrize("name", NAMES)
def test_stored_weights_are_float_once_the_file_is_open(name: str, tmp_path):
    model = narrow_weights(float_file(name))
    onnx.checker.check_model(model, full_check=True)
    assert agreement(model, name) > 0.95
    assert len(content_of(model)) < 0.35 * len(float_content(name))
    opened = optimised(model, tmp_path)
    assert "Cast" not in operators(opened)
    constants = Graph(opened).constants()
    weights = [constants[node.input[1]] for node in opened.graph.node if "Conv" in node.op_type]
    assert weights
    assert {values.dtype for values in weights} == {np.dtype(np.float32)}
    held = sum(values.nbytes for values in constants.values())
    assert unpacked_bytes(float_file(name)) == pytest.approx(held, rel=0.01)


def test_unpacked_bytes_are_those_of_the_float_constants():
    constants = Graph(float_file("baseline_cnn")).constants().values()
    assert unpacked_bytes(float_file("baseline_cnn")) == 4 * sum(values.size for values in constants)
