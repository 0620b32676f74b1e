"""The float graph, streamlined: the same logits from fewer nodes; what only looks alike is left alone."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from taught import NAMES, SIZE, float_file, logits_of, operators, taught

from hkbench.export import onnx as exporting
from hkbench.export.rewrite import streamline

MEAN = np.array([0.4, 0.5, 0.6], np.float32).reshape(1, 3, 1, 1)
STD = np.array([0.2, 0.3, 0.25], np.float32).reshape(1, 3, 1, 1)
CHANNELS = 4


@pytest.fixture(scope="module")
def raw():
    """Return household_s as torch's exporter leaves it."""
    return exporting._translate(taught("household_s"), SIZE)


def test_logits_stay_while_division_and_mean_go(raw):
    assert {"Div", "ReduceMean"} <= set(operators(raw))
    found = onnx.ModelProto.FromString(raw.SerializeToString())
    streamline(found)
    onnx.checker.check_model(found, full_check=True)
    assert not {"Div", "ReduceMean"} & set(operators(found))
    assert "GlobalAveragePool" in operators(found)
    expected = logits_of(raw)
    np.testing.assert_allclose(logits_of(found), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
def test_exported_files_are_streamlined(name):
    found = operators(float_file(name))
    assert not {"Div", "ReduceMean"} & set(found)
    assert "GlobalAveragePool" in found


def weights(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def model_of(nodes, constants, logits, maps=()):
    """Return a hand-made graph from `pictures` of 3 × 8 × 8 to `logits` of a shape."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", *logits])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
        value_info=[
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in maps
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def pictures():
    return np.random.default_rng(1).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)


def check_same(model, *, left: tuple[str, ...] = (), gone: tuple[str, ...] = ()):
    """Streamline a model; its logits must stay, and so must the operators in `left`, all of each."""
    before, expected = operators(model), logits_of(model, pictures())
    streamline(model)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(logits_of(model, pictures()), expected, rtol=1e-4, atol=1e-5)
    for operator in left:
        assert operators(model).count(operator) == before.count(operator)
    assert not set(gone) & set(operators(model))
    return model


def normalised(*others):
    return [
        helper.make_node("Sub", ["pictures", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normal"]),
        *others,
    ]


def test_padding_doesn_t_keep_the_division_from_being_folded():
    convolution = helper.make_node("Conv", ["normal", "w", "b"], ["logits"], pads=[1, 1, 1, 1])
    constants = {"mean": MEAN, "std": STD, "w": weights(CHANNELS, 3, 3, 3), "b": weights(CHANNELS)}
    check_same(model_of(normalised(convolution), constants, [CHANNELS, 8, 8]), gone=("Div",))


def test_one_number_for_all_channels_is_folded_too():
    convolution = helper.make_node("Conv", ["normal", "w"], ["logits"])
    constants = {"mean": MEAN, "std": np.array(0.5, np.float32), "w": weights(CHANNELS, 3, 3, 3)}
    check_same(model_of(normalised(convolution), constants, [CHANNELS, 6, 6]), gone=("Div",))


def test_two_first_convolutions_are_folded_both():
    nodes = normalised(
        helper.make_node("Conv", ["normal", "w"], ["one"]),
        helper.make_node("Conv", ["normal", "v"], ["two"]),
        helper.make_node("Add", ["one", "two"], ["logits"]),
    )
    constants = {"mean": MEAN, "std": STD, "w": weights(2, 3, 3, 3), "v": 2 * weights(2, 3, 3, 3)}
    check_same(model_of(nodes, constants, [2, 6, 6]), gone=("Div",))


def test_the_division_stays_where_another_node_reads_it():
    nodes = normalised(
        helper.make_node("Conv", ["normal", "w"], ["one"]),
        helper.make_node("Add", ["one", "normal"], ["logits"]),
    )
    constants = {"mean": MEAN, "std": STD, "w": weights(3, 3, 1, 1)}
    check_same(model_of(nodes, constants, [3, 8, 8]), left=("Div",))


def test_the_division_stays_before_a_convolution_in_groups():
    convolution = helper.make_node("Conv", ["normal", "w"], ["logits"], group=3)
    constants = {"mean": MEAN, "std": STD, "w": weights(3, 1, 3, 3)}
    check_same(model_of(normalised(convolution), constants, [3, 6, 6]), left=("Div",))


def test_another_division_stays():
    nodes = [
        helper.make_node("Conv", ["pictures", "w"], ["one"]),
        helper.make_node("Div", ["one", "std"], ["two"]),
        helper.make_node("Conv", ["two", "v"], ["logits"]),
    ]
    constants = {"std": STD, "w": weights(3, 3, 3, 3), "v": weights(2, 3, 3, 3)}
    check_same(model_of(nodes, constants, [2, 4, 4]), left=("Div",))


def test_weights_that_a_later_convolution_shares_stay():
    nodes = normalised(
        helper.make_node("Conv", ["normal", "w"], ["one"]),
        helper.make_node("Conv", ["one", "w"], ["logits"]),
    )
    check_same(model_of(nodes, {"mean": MEAN, "std": STD, "w": weights(3, 3, 3, 3)}, [3, 4, 4]))


def mean_of(axes, *, keepdims, logits):
    nodes = [
        helper.make_node("Conv", ["pictures", "w"], ["map"]),
        helper.make_node("ReduceMean", ["map", "axes"], ["logits"], keepdims=keepdims),
    ]
    constants = {"w": weights(CHANNELS, 3, 3, 3), "axes": np.array(axes, np.int64)}
    return model_of(nodes, constants, logits, [("map", [CHANNELS, 6, 6])])


@pytest.mark.parametrize("axes", [(2, 3), (-1, -2), (3, -2)])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_mean_over_the_picture_becomes_pooling(axes, keepdims):
    logits = [CHANNELS, 1, 1] if keepdims else [CHANNELS]
    found = check_same(mean_of(axes, keepdims=keepdims, logits=logits), gone=("ReduceMean",))
    assert operators(found)[1:] == ["GlobalAveragePool", *(() if keepdims else ("Flatten",))]


@pytest.mark.parametrize(("axes", "logits"), [((1,), [6, 6]), ((3,), [CHANNELS, 6]), ((1, 2, 3), [])])
def test_a_mean_over_other_axes_stays(axes, logits):
    check_same(mean_of(axes, keepdims=0, logits=logits), left=("ReduceMean",))


def test_a_mean_of_three_dimensions_stays():
    """The axes 2 and −1 of tokens, (batch, tokens, channels), are one and the same."""
    nodes = [
        helper.make_node("Conv", ["pictures", "w"], ["map"]),
        helper.make_node("Reshape", ["map", "shape"], ["tokens"]),
        helper.make_node("ReduceMean", ["tokens", "axes"], ["logits"], keepdims=0),
    ]
    constants = {
        "w": weights(CHANNELS, 3, 3, 3),
        "shape": np.array([0, CHANNELS, 36], np.int64),
        "axes": np.array([2], np.int64),
    }
    maps = [("map", [CHANNELS, 6, 6]), ("tokens", [CHANNELS, 36])]
    check_same(model_of(nodes, constants, [CHANNELS], maps), left=("ReduceMean",))


def test_what_nobody_reads_goes():
    nodes = [
        helper.make_node("Conv", ["pictures", "w"], ["logits"]),
        helper.make_node("Conv", ["pictures", "v"], ["unread"]),
        helper.make_node("Relu", ["unread"], ["unread_too"]),
    ]
    constants = {"w": weights(CHANNELS, 3, 3, 3), "v": weights(2, 3, 3, 3)}
    found = check_same(model_of(nodes, constants, [CHANNELS, 6, 6]), gone=("Relu",))
    assert [tensor.name for tensor in found.graph.initializer] == ["w"]
