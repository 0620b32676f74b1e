import subprocess
import sys

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photos import photos

from hkbench.errors import UsageError
from hkbench.export.onnx import export_onnx
from hkbench.export.session import OnnxClassifier
from hkbench.models.build import build

LABELS = ("cup", "полотенце", "kettle")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    network = build("household_s", classes=len(LABELS), seed=0)
    path = tmp_path_factory.mktemp("session") / "model.onnx"
    return export_onnx(network, path, image_size=32, labels=LABELS, metadata={}).path


def test_file_says_what_it_takes_and_gives(path):
    classifier = OnnxClassifier(path)
    assert classifier.labels == LABELS
    assert classifier.image_size == 32
    assert len(classifier.sha256) == 64


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 12), batch=st.integers(1, 15))
def test_batches_don_t_change_logits(path, count: int, batch: int):
    classifier = OnnxClassifier(path)
    pictures = photos(12, 32)
    found = classifier.logits(pictures[:count], batch=batch)
    assert found.shape == (count, len(LABELS))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, classifier.logits(pictures)[:count], atol=1e-5)


def test_threads_don_t_change_logits(path):
    pictures = photos(4, 32)
    one, two = (OnnxClassifier(path, threads=threads).logits(pictures) for threads in (1, 2))
    np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.parametrize(
    "pictures",
    [
        np.zeros((1, 3, 31, 32), np.uint8),
        np.zeros((1, 32, 32, 3), np.uint8),
        np.zeros((3, 32, 32), np.uint8),
        np.zeros((1, 3, 32, 32), np.float32),
    ],
)
def test_other_pictures_are_refused(path, pictures):
    with pytest.raises(UsageError, match=r"takes uint8 pictures of \(3, 32, 32\), found"):
        OnnxClassifier(path).logits(pictures)


def test_absent_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="can't be read: No such file"):
        OnnxClassifier(tmp_path / "none.onnx")


def test_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match="can't be read: Is a directory"):
        OnnxClassifier(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a" * 40])
def test_broken_file_is_refused(tmp_path, content: bytes):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(content)
    with pytest.raises(UsageError, match=r"broken\.onnx is no ONNX model"):
        OnnxClassifier(broken)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_cut_off_file_is_refused(path, tmp_path, share: float):
    cut = tmp_path / "cut.onnx"
    content = path.read_bytes()
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UsageError, match=r"cut\.onnx"):
        OnnxClassifier(cut)


@pytest.mark.parametrize("lost", ["labels", "image_size"])
def test_model_of_others_is_refused(path, tmp_path, lost: str):
    model = onnx.load(path)
    kept = {prop.key: prop.value for prop in model.metadata_props if prop.key != lost}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, kept)
    foreign = tmp_path / "foreign.onnx"
    onnx.save(model, foreign)
    with pytest.raises(UsageError, match="not one that hkbench has exported"):
        OnnxClassifier(foreign)


def test_session_needs_no_torch(path):
    script = (
        "import sys, numpy; from pathlib import Path; from hkbench.export.session import OnnxClassifier;"
        "logits = OnnxClassifier(Path(sys.argv[1])).logits(numpy.zeros((1, 3, 32, 32), numpy.uint8));"
        "print(logits.shape, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 3) False"
