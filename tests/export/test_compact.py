"""Compact graphs: smaller, in the same form for the outside, and the same but for what float16 rounds."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from taught import NAMES, SIZE, crops, float_content, float_file, logits_of, operators

from hkbench.export.onnx import content_of
from hkbench.export.quantize.compact import compact

HALF = 2.0**-10
"""What float16 rounds is off by less than this share."""


def compacted(name):
    model = float_file(name)
    compact(model)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_logits_stay_but_for_rounding(name):
    model = compacted(name)
    onnx.checker.check_model(model, full_check=True)
    expected, found = logits_of(float_file(name)), logits_of(model)
    np.testing.assert_allclose(found, expected, atol=10 * HALF * np.ptp(expected))
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert len(content_of(model)) < 0.55 * len(float_content(name))


def test_equal_models_make_equal_bytes():
    assert content_of(compacted("household_s")) == content_of(compacted("household_s"))


def test_once_more_changes_no_logit():
    once, twice = compacted("household_s"), compacted("household_s")
    compact(twice)
    onnx.checker.check_model(twice, full_check=True)
    np.testing.assert_array_equal(logits_of(twice), logits_of(once))


def test_it_takes_any_batch_under_known_names():
    model = compacted("household_s")
    (taken,), (given,) = model.graph.input, model.graph.output
    assert (taken.name, given.name) == ("pictures", "logits")
    sides = [dim.dim_param or dim.dim_value for dim in taken.type.tensor_type.shape.dim]
    assert sides == ["batch", 3, SIZE, SIZE]
    expected = logits_of(model)
    for batch in (1, 7):
        np.testing.assert_allclose(logits_of(model, crops(), batch=batch), expected, atol=1e-5)


def test_metadata_stays():
    model = float_file("household_s")
    onnx.helper.set_model_props(model, {"labels": "[]"})
    compact(model)
    assert [(each.key, each.value) for each in model.metadata_props] == [("labels", "[]")]


def small(nodes, constants, logits):
    graph = helper.make_graph(
        nodes,
        "a graph with a long name",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", *logits])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


PICTURES = np.random.default_rng(1).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)


def check_same(model):
    expected = logits_of(model, PICTURES)
    compact(model)
    onnx.checker.check_model(model, full_check=True)
    found = logits_of(model, PICTURES)
    np.testing.assert_allclose(found, expected, atol=4 * HALF * np.abs(expected).max())
    return model


def test_attributes_go_only_where_they_say_the_default():
    said = {"strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0], "kernel_shape": [3, 3], "group": 1}
    nodes = [
        helper.make_node("Conv", ["pictures", "w"], ["one"], **said),
        helper.make_node("Conv", ["one", "w"], ["two"], strides=[1, 2], pads=[0, 1, 0, 1], dilations=[1, 1]),
        helper.make_node("LeakyRelu", ["two"], ["three"], alpha=0.01),
        helper.make_node("LeakyRelu", ["three"], ["four"], alpha=0.5),
        helper.make_node("MaxPool", ["four"], ["logits"], kernel_shape=[2, 2], strides=[1, 1]),
    ]
    model = check_same(small(nodes, {"w": random(3, 3, 3, 3)}, [3, 3, 2]))
    kept = [{each.name for each in node.attribute} for node in model.graph.node if node.op_type != "Cast"]
    assert kept == [set(), {"strides", "pads"}, set(), {"alpha"}, {"kernel_shape"}]


def test_an_input_that_is_left_out_stays_so():
    """A clip without its lower bound."""
    nodes = [helper.make_node("Clip", ["pictures", "", "top"], ["logits"], name="clip")]
    model = check_same(small(nodes, {"top": np.array(0.5, np.float32)}, [3, 8, 8]))
    assert model.graph.node[0].input[1] == ""


def test_equal_constants_are_kept_once():
    nodes = [
        helper.make_node("Add", ["pictures", "a"], ["one"]),
        helper.make_node("Mul", ["one", "b"], ["logits"]),
    ]
    half = np.array(0.5, np.float32)
    model = check_same(small(nodes, {"a": half, "b": half.copy()}, [3, 8, 8]))
    assert len(model.graph.initializer) == 1


@pytest.mark.parametrize("lengths", [(8,), (1, 8), (8, 16, 9, 64), (7, 3)])
def test_vectors_of_any_number_and_length_come_back(lengths):
    names = [f"v{length}" for length in lengths]
    nodes = [
        helper.make_node("ReduceMean", ["pictures", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
        *(helper.make_node("Mul", ["column", name], [f"{name}_times"]) for name in names),
        helper.make_node("Concat", [f"{name}_times" for name in names], ["logits"], axis=1),
    ]
    constants = {"axes": np.array([1, 2, 3], np.int64), "last": np.array([1], np.int64)}
    vectors = {name: random(length) for name, length in zip(names, lengths, strict=True)}
    check_same(small(nodes, constants | vectors, [sum(lengths)]))


def test_more_tensors_than_letters_keep_apart():
    nodes = [
        helper.make_node("Add", [f"x{at}" if at else "pictures", f"c{at}"], [f"x{at + 1}"])
        for at in range(150)
    ]
    nodes[-1].output[0] = "logits"
    constants = {f"c{at}": np.array(at / 100, np.float32) for at in range(150)}
    model = check_same(small(nodes, constants, [3, 8, 8]))
    names = [tensor.name for tensor in model.graph.initializer] + [
        node.output[0] for node in model.graph.node
    ]
    assert len(set(names)) == 300
    assert max(len(name) for name in names if name != "logits") == 2


def test_nothing_tells_of_who_made_it():
    assert b"pytorch" not in content_of(compacted("household_s"))
    node = helper.make_node("Relu", ["pictures"], ["logits"], name="a layer", doc_string="its line")
    model = small([node], {}, [3, 8, 8])
    model.producer_name, model.producer_version, model.doc_string = "producer", "9.9", "who made it"
    content = content_of(check_same(model))
    assert operators(model) == ["Relu"]
    for said in (b"long name", b"a layer", b"its line", b"producer", b"9.9", b"who made it"):
        assert said not in content


def test_numbers_that_float16_lacks_stay_numbers():
    vector = random(8) * 1e5
    nodes = [
        helper.make_node("ReduceMean", ["pictures", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
        helper.make_node("Mul", ["column", "v"], ["one"]),
        helper.make_node("Add", ["one", "w"], ["logits"]),
    ]
    axes = {"axes": np.array([1, 2, 3], np.int64), "last": np.array([1], np.int64)}
    check_same(small(nodes, {"v": vector, "w": random(8), **axes}, [8]))
