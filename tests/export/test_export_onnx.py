import copy
import json
import logging
import warnings
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from photos import photos

import hkbench
from hkbench.errors import HkbenchError
from hkbench.export.onnx import check_export, export_onnx
from hkbench.export.session import OnnxClassifier
from hkbench.models.build import build
from hkbench.models.classifier import parameter_count

LABELS = ("чашка", "towel", "1 l kettle", "lamp", "chair")
QUICK = ("household_s", "efficientnet_lite0_cut2", "squeezenet1_1", "baseline_cnn")
SLOW = ("household_m", "efficientnet_lite0", "efficientnet_lite0_cut4", "mobilenetv4_conv_small_050")


def trained(name: str):
    """Return a network whose batch-norm statistics are no longer those of a new one."""
    network = build(name, classes=len(LABELS), seed=0)
    with torch.no_grad():
        for _ in range(2):
            network(torch.from_numpy(photos(8, 48)).float() / 255)
    return network


def export(network, path, **metadata):
    return export_onnx(network, path, image_size=48, labels=LABELS, metadata=metadata)


@pytest.fixture(scope="module")
def network():
    return trained("household_s")


@pytest.fixture(scope="module")
def artifact(network, tmp_path_factory):
    return export(network, tmp_path_factory.mktemp("export") / "model.onnx", role="student")


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_file_gives_torch_s_logits(name: str, tmp_path):
    network = trained(name)
    artifact = export(network, tmp_path / "model.onnx")
    assert check_export(artifact, network, photos(35, 48)) < 1e-3
    assert artifact.parameters == parameter_count(network)
    model = onnx.load(artifact.path)
    onnx.checker.check_model(model, full_check=True)
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"BatchNormalization", "Shape", "Reshape", "Pad"}
    # Folding keeps a file about as large as its parameters.
    assert artifact.size_bytes < 4 * artifact.parameters + 30_000


def test_artifact_is_the_file(artifact):
    assert artifact.size_bytes == artifact.path.stat().st_size
    assert artifact.sha256 == OnnxClassifier(artifact.path).sha256
    assert [opset.version for opset in onnx.load(artifact.path).opset_import] == [artifact.opset]
    assert [file.name for file in artifact.path.parent.iterdir()] == ["model.onnx"]


def test_file_carries_labels_and_preprocessing(artifact):
    found = {prop.key: prop.value for prop in onnx.load(artifact.path).metadata_props}
    assert json.loads(found["labels"]) == list(LABELS)
    assert found["image_size"] == "48"
    assert json.loads(found["preprocessing"])["channels"] == "RGB"
    assert json.loads(found["preprocessing"])["range"] == [0, 1]
    assert "bicubic" in json.loads(found["preprocessing"])["resize"]
    assert found["model"] == "household_s"
    assert found["role"] == "student"


def test_file_takes_any_batch_under_known_names(artifact):
    graph = onnx.load(artifact.path).graph
    (taken,), (given,) = graph.input, graph.output
    assert (taken.name, given.name) == ("pictures", "logits")
    sides = [dim.dim_param or dim.dim_value for dim in taken.type.tensor_type.shape.dim]
    assert sides == ["batch", 3, 48, 48]


def test_file_tells_nothing_of_the_machine(artifact):
    content = artifact.path.read_bytes()
    assert hkbench.__file__.rpartition("/")[0].encode() not in content
    assert b"stack_trace" not in content
    assert b".py" not in content


def test_equal_weights_make_equal_bytes_under_a_later_hkbench(network, artifact, tmp_path, monkeypatch):
    monkeypatch.setattr(hkbench, "__version__", "99.9.9")
    assert export(network, tmp_path / "again.onnx", role="student").sha256 == artifact.sha256


def test_exporting_is_quiet_and_leaves_the_network_alone(tmp_path, capfd, caplog):
    network = trained("household_s")
    before = copy.deepcopy(network.state_dict())
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("error")
        export(network, tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


@pytest.fixture
def own_artifact(artifact, tmp_path):
    """Return a copy that a test may spoil."""
    path = tmp_path / "model.onnx"
    path.write_bytes(artifact.path.read_bytes())
    return replace(artifact, path=path)


def test_file_of_other_weights_is_rejected(own_artifact):
    other = build("household_s", classes=len(LABELS), seed=9)
    with pytest.raises(HkbenchError, match=r"other logits.*kept at .*model\.onnx\.rejected"):
        check_export(own_artifact, other, photos(4, 48))
    assert [file.name for file in own_artifact.path.parent.iterdir()] == ["model.onnx.rejected"]


def test_logits_that_are_no_numbers_are_rejected(own_artifact):
    network = trained("household_s")
    with torch.no_grad():
        next(network.head.parameters()).fill_(float("nan"))
    with pytest.raises(HkbenchError, match="differ by nan"):
        check_export(own_artifact, network, photos(4, 48))
    assert not own_artifact.path.exists()


def test_failed_write_leaves_nothing(network, tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(OSError, match="folder"):
        export(network, path)
    assert path.is_dir()
    assert list(tmp_path.iterdir()) == [path]


def test_bytes_and_floats_mean_the_same_pictures(network, artifact):
    pictures = photos(3, 48)
    with torch.inference_mode():
        expected = copy.deepcopy(network).eval()(torch.from_numpy(pictures).float() / 255).numpy()
    np.testing.assert_allclose(OnnxClassifier(artifact.path).logits(pictures), expected, atol=1e-4)
