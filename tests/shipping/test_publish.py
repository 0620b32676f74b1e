"""A file under its final name is what its record says; what is wrong is kept aside under another."""

import errno
import hashlib
import json
import os

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from small_run import (
    LICENCES,
    SIZE,
    TRAINING,
    export_once,
    finalist,
    float_model_of,
    float_record,
    run_in,
)
from training_fakes import CLASSES

from hkbench.errors import UsageError
from hkbench.export.onnx import RejectedError, content_of, torch_logits
from hkbench.export.session import OnnxClassifier
from hkbench.shipping.facts import file_metadata
from hkbench.shipping.float32 import kept_network, ship_float
from hkbench.shipping.publish import publish
from hkbench.store.digest import sha256_of
from hkbench.store.rundir import RunDirectory

METADATA = file_metadata(
    split_hash="5" * 64,
    precision="fp32",
    source_sha256="a" * 64,
    training=TRAINING,
    licences=LICENCES,
)


@pytest.fixture(scope="module")
def content(network) -> bytes:
    return content_of(float_model_of(network))


@pytest.fixture(scope="module")
def expected(network, parts):
    return torch_logits(network, parts.pictures("validation"))


@pytest.fixture
def model(content) -> onnx.ModelProto:
    """Return the network's float32 model, for a test to spoil."""
    return onnx.ModelProto.FromString(content)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def publish_it(model, path, parts, **how):
    return publish(model, path, name="baseline_cnn", parts=parts, metadata=METADATA, **how)


def names(folder) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_what_lies_there_is_what_the_record_says(model, path, parts, expected):
    published = publish_it(model, path, parts, expected=expected)
    found = published.verified
    assert names(path.parent) == ["model.onnx"]
    content = path.read_bytes()
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert found.size_bytes == len(content)
    logits = OnnxClassifier(path).logits(parts.pictures("validation"), batch=32)
    np.testing.assert_allclose(published.logits, logits, atol=1e-5)
    right = logits.argmax(axis=1) == parts.labels("validation")
    assert found.accuracy == pytest.approx(right.mean())
    assert found.accuracy > 0.9
    assert found.pictures == len(right)
    assert found.batches == [1, 32]
    assert found.max_logit_difference == pytest.approx(np.abs(logits - expected).max(), abs=1e-5)
    onnx.checker.check_model(onnx.load(path), full_check=True)


def test_the_file_tells_where_it_comes_from(model, path, parts, expected):
    published = publish_it(model, path, parts, expected=expected)
    found = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert found["split"] == "5" * 64
    assert found["precision"] == "fp32"
    assert found["source_sha256"] == "a" * 64
    assert json.loads(found["training"]) == TRAINING
    assert json.loads(found["licences"]) == LICENCES
    accuracy = json.loads(found["metrics"])["validation"]["accuracy"]
    assert accuracy == pytest.approx(published.verified.accuracy, abs=1e-5)
    assert json.loads(found["labels"]) == list(CLASSES)
    assert found["image_size"] == str(SIZE)
    assert json.loads(found["preprocessing"])["range"] == [0, 1]
    assert found["model"] == "baseline_cnn"


def test_equal_models_make_equal_files(content, tmp_path, parts, expected):
    hashes = {
        publish_it(
            onnx.ModelProto.FromString(content), tmp_path / folder / "model.onnx", parts, expected=expected
        ).verified.sha256
        for folder in ("one", "two")
    }
    assert len(hashes) == 1


def test_a_file_of_other_logits_is_kept_aside(model, path, parts, expected):
    wanted = r"not shipped: it gives other logits than the baseline_cnn .*kept at .*model\.onnx\.rejected"
    with pytest.raises(RejectedError, match=wanted):
        publish_it(model, path, parts, expected=expected + 0.5)
    assert names(path.parent) == ["model.onnx.rejected"]


def test_one_logit_of_one_picture_is_enough(model, path, parts, expected):
    spoiled = expected.copy()
    spoiled[17, 1] += 0.01 * np.abs(expected).max()
    with pytest.raises(RejectedError, match="other logits"):
        publish_it(model, path, parts, expected=spoiled)
    assert names(path.parent) == ["model.onnx.rejected"]


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("float32", [True, False])
def test_logits_that_are_no_numbers_are_kept_aside(model, path, parts, expected, number, float32):
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "head.4.bias")
    values = numpy_helper.to_array(bias).copy()
    values[0] = number
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    with pytest.raises(RejectedError, match="logits that are no numbers"):
        publish_it(model, path, parts, expected=expected if float32 else None)
    assert names(path.parent) == ["model.onnx.rejected"]


def test_a_flaw_that_the_caller_finds_is_told(model, path, parts):
    seen = []

    def flaw(logits):
        seen.append(logits)
        return "it is too dear"

    with pytest.raises(RejectedError, match="is not shipped: it is too dear"):
        publish_it(model, path, parts, flaw=flaw)
    assert names(path.parent) == ["model.onnx.rejected"]
    assert [logits.shape for logits in seen] == [(len(parts.rows("validation")), len(CLASSES))]


def test_a_file_that_answers_otherwise_at_batch_1_is_kept_aside(model, path, parts):
    graph = model.graph
    graph.node[-1].output[0] = "always"
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "single"))
    graph.node.extend(
        [
            helper.make_node("Shape", ["pictures"], ["batch"], start=0, end=1),
            helper.make_node("Equal", ["batch", "single"], ["alone"]),
            helper.make_node("Neg", ["always"], ["other"]),
            helper.make_node("Where", ["alone", "other", "always"], ["logits"]),
        ]
    )
    with pytest.raises(RejectedError, match=r"at batch 1 it answers 100\.0% of the pictures otherwise"):
        publish_it(model, path, parts)
    assert names(path.parent) == ["model.onnx.rejected"]


def full_after(monkeypatch, writes: int):
    """Let the disk be full after so many files."""
    real, calls = os.fsync, []

    def full(file):
        calls.append(file)
        if len(calls) > writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", full)


@pytest.mark.parametrize("writes", [0, 1])
def test_a_full_disk_leaves_nothing(model, path, parts, expected, monkeypatch, writes: int):
    full_after(monkeypatch, writes)
    with pytest.raises(UsageError, match="No room on the disk"):
        publish_it(model, path, parts, expected=expected)
    assert names(path.parent) == []


def test_what_was_shipped_before_survives_a_file_that_is_wrong(content, path, parts, expected):
    publish_it(onnx.ModelProto.FromString(content), path, parts, expected=expected)
    before = path.read_bytes()
    with pytest.raises(RejectedError):
        publish_it(onnx.ModelProto.FromString(content), path, parts, expected=expected + 1)
    assert path.read_bytes() == before
    assert names(path.parent) == ["model.onnx", "model.onnx.rejected"]


@pytest.fixture(scope="module")
def run(parts, network, tmp_path_factory) -> RunDirectory:
    """Return a run with the network shipped as float32."""
    run = run_in(tmp_path_factory.mktemp("run") / "small", parts)
    with pytest.MonkeyPatch.context() as patch:
        export_once(patch)
        ship_float(finalist(network), parts, run)
    return run


def test_a_shipped_network_s_record_is_of_its_files(run, parts, network):
    record = float_record(run, "trial-003")
    folder = run.models / record.id
    assert names(folder) == ["labels.txt", "model.json", "model.onnx", "model.safetensors"]
    assert set(record.files.values()) == {"labels.txt", "model.onnx", "model.safetensors"}
    path = folder / record.files["onnx"]
    assert (record.sha256, record.size_bytes) == (sha256_of(path), path.stat().st_size)
    assert record.verified is not None
    assert (record.verified.sha256, record.verified.size_bytes) == (record.sha256, record.size_bytes)
    assert record.accuracy("validation") == record.verified.accuracy
    assert {part.part: part.pictures for part in record.parts} == {"validation": 300, "test": 30}
    assert (record.precision, record.source, record.lost) == ("fp32", None, None)
    assert (record.training, record.licences) == (TRAINING, LICENCES)
    metadata = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert metadata["source_sha256"] == sha256_of(folder / record.files["safetensors"])
    assert metadata["split"] == parts.split.hash
    assert (folder / "labels.txt").read_text().split() == list(CLASSES)


def test_the_kept_network_gives_the_file_s_logits(run, parts):
    record = float_record(run, "trial-003")
    kept = kept_network(run, record)
    assert kept is not None
    assert not kept.training
    pictures = parts.pictures("test")
    found = OnnxClassifier(run.models / record.id / "model.onnx").logits(pictures)
    np.testing.assert_allclose(torch_logits(kept, pictures), found, atol=1e-4)


def test_answers_are_kept_of_the_parts_that_are_read(parts, network, tmp_path, monkeypatch):
    export_once(monkeypatch)
    run = run_in(tmp_path / "small", parts)
    shipped = ship_float(finalist(network), parts, run, read=("validation",))
    assert [block.part for block in shipped.blocks] == ["validation"]
    assert [part.part for part in shipped.record.parts] == ["validation"]
    (block,) = shipped.blocks
    assert block.picture_ids == [parts.store.ids[row] for row in parts.rows("validation")]
