import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import int8_loss, int8_size, int8_speed, int8_students
from benchmarks.claim import Claim
from benchmarks.int8_students import Student, float_logits, has_vnni, streamlined
from hkbench.benchmark.turns import FEWEST_ROUNDS, in_turns
from hkbench.data.splits import Split
from hkbench.data.store import PictureStore
from hkbench.errors import HkbenchError
from hkbench.shipping import int8
from hkbench.shipping.parts import Parts
from hkbench.store.records import ModelRecord

SIZE, CLASSES = 32, 4
CHANNELS = 16
COUNTS = {"train": 64, "validation": 40, "test": 24}


def stored_model() -> onnx.ModelProto:
    """Return a file as it was exported before streamlining: a division at first, a mean at the end."""
    rng = np.random.default_rng(0)
    shapes = {"first": (CHANNELS, 3, 3, 3), "second": (CHANNELS, CHANNELS, 3, 3), "head": (CHANNELS, CLASSES)}
    constants = {
        "mean": np.full((1, 3, 1, 1), 0.5, np.float32),
        "std": np.full((1, 3, 1, 1), 0.25, np.float32),
        "axes": np.array([2, 3]),
        "bias": np.zeros(CLASSES, np.float32),
        **{name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()},
    }
    nodes = [
        helper.make_node("Sub", ["pictures", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "first"], ["a"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("ReduceMean", ["d", "axes"], ["pooled"], keepdims=0),
        helper.make_node("Gemm", ["pooled", "head", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {"split": "a" * 64})
    return model


def tiny_student(name: str) -> Student:
    stored = stored_model()
    record = ModelRecord(
        id="trial-000",
        role="student",
        model="baseline_cnn",
        image_size=SIZE,
        architecture={"model": "baseline_cnn", "image_size": SIZE},
        parameters=1,
        sha256="b" * 64,
        size_bytes=1,
    )
    return Student(
        name=name, record=record, training={}, licences={}, stored=stored, model=streamlined(stored)
    )


def tiny_parts() -> Parts:
    """Return noise, each picture labelled with what the float32 file answers, so that it is always right."""
    total = sum(COUNTS.values())
    pictures = np.random.default_rng(1).integers(0, 256, (total, 3, SIZE, SIZE), dtype=np.uint8)
    store = PictureStore(
        path=Path("nowhere"),
        key="",
        size=SIZE,
        pictures=pictures,
        labels=float_logits(tiny_student("labels"), pictures).argmax(axis=1),
        classes=tuple("abcd"),
        rejected=(),
        fingerprint="",
        names_crc32=0,
    )
    starts = np.cumsum([0, *COUNTS.values()])
    rows = {name: np.arange(starts[at], starts[at + 1]) for at, name in enumerate(COUNTS)}
    return Parts(store=store, split=Split(scheme="random", seed=0, hash="a" * 64, **rows))


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(int8, "TIMED_SECONDS", 0.01)
    parts = tiny_parts()
    for module in (int8_loss, int8_size, int8_speed):
        monkeypatch.setattr(module, "open_student", tiny_student)
        monkeypatch.setattr(module, "open_parts", lambda: parts)
    students = {"one": Path("one")}
    monkeypatch.setattr(int8_students, "STUDENTS", students)
    monkeypatch.setattr(int8_speed, "STUDENTS", students)
    monkeypatch.setattr(int8_size, "SMALLEST", 1)
    monkeypatch.setattr(int8_speed, "SECONDS", 0.01)
    monkeypatch.setattr(int8_speed, "QUICK_SECONDS", 0.01)


@pytest.fixture
def lenient(monkeypatch):
    """Forty pictures leave an interval that no file could pass by."""
    monkeypatch.setattr(int8, "passes", lambda _: True)
    monkeypatch.setattr(int8_loss, "passes", lambda _: True)


@pytest.fixture
def strict(monkeypatch):
    monkeypatch.setattr(int8, "passes", lambda _: False)


def written(claim: Claim) -> dict:
    """Return a claim as it is read from its file."""
    found = json.loads(json.dumps(asdict(claim), allow_nan=False))
    assert set(found) == {"name", "value", "unit", "target", "holds", "details"}
    assert found["details"]["threads"] == 1
    assert "vnni" in found["details"]
    return found


@pytest.mark.usefixtures("tiny", "lenient")
def test_the_loss_is_told_for_each_student_in_points_on_both_parts():
    claim = written(int8_loss.measure(True))
    assert (claim["name"], claim["unit"], claim["target"]) == ("int8_loss", "points", "at most 0.3")
    assert set(claim["details"]["students"]) == {"one"}
    row = claim["details"]["students"]["one"]
    assert row["gate"] == "passes"
    assert row["refused"] is None
    assert row["validation"]["fp32"] == row["test"]["fp32"] == 1
    assert row["lost"] == pytest.approx(100 * (1 - row["validation"]["int8"]))
    assert row["low"] <= row["lost"] <= row["high"]
    assert row["recipe"].startswith(("U8S8", "S8S8"))
    assert 0 <= row["test"]["int8"] <= 1
    assert claim["details"]["validation"] == COUNTS["validation"]


@pytest.mark.usefixtures("tiny", "strict")
def test_a_student_that_is_not_shipped_counts_in_no_favour():
    for row in int8_loss.measure(True).details["students"].values():
        assert row["gate"] == "not shipped"
        assert row["refused"].startswith("loses ")
        assert row["counted"] >= 0.5
        assert row["test"]["int8"] is None


@pytest.mark.parametrize(
    ("counted", "gate", "value", "holds"),
    [
        ([0.1, 0.2, 0.5], "passes", 0.2, True),
        ([0.1, 0.4, 0.5], "passes", 0.4, False),
        ([0.1, 0.2, 0.5], "not shipped", 0.2, True),
        ([0.1, 0.2, 0.5], "fails", 0.2, False),
    ],
)
def test_the_loss_claimed_is_the_median(counted, gate, value, holds):
    rows = {str(lost): {"counted": lost, "gate": "passes"} for lost in counted}
    rows["0.5"]["gate"] = gate
    claim = int8_loss.claim_of(rows)
    assert (claim.value, claim.holds) == (value, holds)


@pytest.mark.usefixtures("tiny", "lenient")
def test_the_sizes_are_those_of_the_published_files():
    claim = written(int8_size.measure(True))
    assert (claim["name"], claim["target"]) == ("int8_size", "at most 0.30 (limit 0.25)")
    for row in claim["details"]["students"].values():
        assert row["counts"]
        assert row["ratio"] == row["int8_bytes"] / row["fp32_bytes"]
    assert claim["value"] == max(row["ratio"] for row in claim["details"]["students"].values())


@pytest.mark.usefixtures("tiny", "strict")
def test_without_an_int8_file_nothing_is_saved():
    claim = int8_size.measure(True)
    assert claim.value == 1
    assert not claim.holds


@pytest.mark.parametrize(
    ("ratios", "value", "holds"), [([0.26, 0.3], 0.3, True), ([0.26, 0.31], 0.31, False)]
)
def test_the_size_claimed_is_the_greatest_of_those_that_count(ratios, value, holds):
    rows = {str(ratio): {"ratio": ratio, "counts": True} for ratio in ratios}
    claim = int8_size.claim_of(rows | {"small": {"ratio": 0.9, "counts": False}})
    assert (claim.value, claim.holds) == (value, holds)


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.usefixtures("tiny", "lenient")
def test_every_form_is_timed_at_both_batches(quick):
    claim = written(int8_speed.measure(quick))
    assert (claim["name"], claim["target"]) == ("int8_speed", "at least 4 of 6")
    row = claim["details"]["students"]["one"]
    assert row["ships"]
    for batch in ("batch 1", "batch 32"):
        assert row[batch]["fp32/int8"] == row[batch]["fp32_ms"] / row[batch]["int8_ms"]
        assert row[batch]["eager/fp32"] == row[batch]["eager_ms"] / row[batch]["fp32_ms"]


@pytest.mark.parametrize(
    ("single", "many", "ships", "reached"),
    [
        ((1.7, 1.3, 1.0), (1.7, 1.3, 1.0), True, True),
        ((1.7, 1.3, 1.0), (1.7, 1.3, 1.0), False, False),
        ((1.6, 1.3, 1.0), (1.7, 1.3, 1.0), True, False),  # eager against float32, batch 1
        ((1.7, 1.3, 1.0), (1.7, 1.2, 1.0), True, False),  # float32 against int8, batch 32
    ],
)
def test_a_student_reaches_the_target_in_both_ratios_at_both_batches(single, many, ships, reached):
    medians = {
        batch: dict(zip(("eager", "fp32", "int8"), found, strict=True))
        for batch, found in ((1, single), (32, many))
    }
    assert int8_speed.row_of("U8S8", ships, medians)["reached"] is reached


@pytest.mark.parametrize(("reached", "holds"), [(3, False), (4, True)])
def test_four_of_six_students_are_enough(reached, holds):
    claim = int8_speed.claim_of({str(at): {"reached": at < reached} for at in range(6)})
    assert (claim.value, claim.holds) == (reached, holds)


def test_a_student_is_streamlined_to_the_same_logits():
    student = tiny_student("one")
    operators = [node.op_type for node in student.model.graph.node]
    assert "Div" not in operators
    assert "GlobalAveragePool" in operators
    assert not student.model.graph.value_info
    assert "Div" in [node.op_type for node in student.stored.graph.node]
    pictures = np.zeros((2, 3, SIZE, SIZE), np.uint8)
    assert float_logits(student, pictures).shape == (2, CLASSES)


def test_other_logits_are_refused():
    student = tiny_student("one")
    head = next(each for each in student.model.graph.initializer if each.name == "head")
    head.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(head) * 1.01, "head"))
    with pytest.raises(HkbenchError, match="one, streamlined, gives other logits than its stored file"):
        float_logits(student, np.zeros((2, 3, SIZE, SIZE), np.uint8))


@pytest.mark.usefixtures("tiny")
def test_another_split_is_refused(tmp_path):
    student = tiny_student("one")
    onnx.helper.set_model_props(student.stored, {"split": "c" * 64})
    with pytest.raises(HkbenchError, match=f"one was trained on the split {'c' * 64}, found {'a' * 64}"):
        int8_students.shipped(student, tiny_parts(), tmp_path)


@pytest.mark.parametrize("name", int8_students.STUDENTS)
def test_the_students_are_there(name):
    student = int8_students.open_student(name)
    assert student.record.image_size == int8_students.SIZE
    assert student.training["teacher"]
    assert set(student.licences) == {"code", "pictures"} | (
        {"weights"} if student.training["weights"] != "none" else set()
    )


def test_quick_takes_the_three_smallest():
    sizes = {name: int8_students.open_student(name).record.size_bytes for name in int8_students.STUDENTS}
    assert int8_students.student_names(quick=True) == sorted(sizes, key=sizes.__getitem__)[:3]
    assert int8_students.student_names(quick=False) == list(sizes)


def test_calls_take_turns():
    order = []
    medians = in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 0)
    assert order[:4] == ["a", "b", "a", "b"]
    assert order.count("a") == order.count("b") > FEWEST_ROUNDS
    assert set(medians) == {"a", "b"}


@pytest.mark.parametrize(
    ("flags", "there"), [("sse2 avx512_vnni", True), ("avx_vnni", True), ("avx2 avx512f", False)]
)
def test_vnni_is_read_off_the_processors_flags(tmp_path, flags, there):
    (tmp_path / "cpuinfo").write_text(f"model name : any\nflags : {flags} fma\n")
    assert has_vnni(tmp_path / "cpuinfo") is there
    assert has_vnni(tmp_path / "none") is None
