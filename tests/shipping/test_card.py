import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_sample_images

from hkbench.data.decode import decode
from hkbench.errors import UsageError
from hkbench.export.onnx import export_onnx
from hkbench.export.session import OnnxClassifier
from hkbench.models.build import build
from hkbench.shipping.card import model_card
from hkbench.store.records import (
    AccuracyLoss,
    ModelRecord,
    PartMetrics,
    Quantization,
    RunRecord,
    SplitRecord,
    Verification,
)
from hkbench.store.rundir import RunDirectory

DEMO = Path(__file__).parents[2] / "results" / "demo"
LABELS = ("чашка", "towel", "1 l kettle", "lamp", "chair")
SIZE = 48
FILES = {"fp32": "model.onnx", "int8": "model-int8.onnx", "w8": "model-w8.onnx"}
LICENCES = {"pictures": "CC0-1.0 and CC-BY-3.0", "code": "Apache-2.0", "weights": "MIT"}


@pytest.fixture(scope="module")
def run() -> RunRecord:
    return RunDirectory.open(DEMO).read_run()


@pytest.fixture(scope="module")
def old() -> ModelRecord:
    """Return a record of the first versions, which lacks intervals, latency and licences."""
    found = next(record for record in RunDirectory.open(DEMO).model_records() if record.role == "student")
    parts = [part.model_copy(update={"intervals": {}}) for part in found.parts]
    later = {"training": {}, "licences": {}, "source_sha256": None, "verified": None}
    return found.model_copy(update=later | {"parts": parts})


@pytest.fixture(scope="module")
def records(old) -> list[ModelRecord]:
    """Return the records of one network in three precisions: all there is, less, and next to nothing."""
    parts = [
        PartMetrics(
            part="validation",
            pictures=2195,
            metrics={"accuracy": 0.8123, "calibration_error": 0.0312, "balanced_accuracy": 0.7991},
            intervals={"accuracy": (0.7957, 0.8284)},
        ),
        PartMetrics(
            part="test",
            pictures=1099,
            metrics={"accuracy": 0.8007, "calibration_error": 0.0421, "macro_f1": 0.7876},
            intervals={"accuracy": (0.7761, 0.8233)},
            temperature=1.317,
            calibrated_error=0.0187,
            cost_weighted_error=0.251,
        ),
    ]
    checked = Verification(
        sha256="0" * 64,
        size_bytes=89_012,
        pictures=2195,
        accuracy=0.8101,
        batches=[1, 32],
        latency_ms=0.0873,
        latency_device="AMD EPYC | 1 thread",
        verified="2026-11-26T10:00:00+00:00",
    )
    quantized = Quantization(
        recipe={"activations": "u8", "float_stem": True, "calibrator": "minmax"},
        label="U8S8, float stem, per channel, minmax",
        pictures=512,
        tuned_epochs=3,
        float_latency_ms=0.16,
    )
    common = {
        "training": {"optimizer": "adamw", "learning_rate": 0.00312345, "views": [1, 2]},
        "licences": LICENCES,
    }
    return [
        old.model_copy(update={**common, "parts": parts}),
        old.model_copy(
            update={
                **common,
                "precision": "int8",
                "size_bytes": 89_012,
                "parts": parts[:1],
                "lost": AccuracyLoss(estimate=0.0022, low=-0.0018, high=0.0062),
                "verified": checked,
                "quantization": quantized,
            }
        ),
        old.model_copy(
            update={"precision": "w8", "parts": [], "unpacked_bytes": 337_066, "size_bytes": 99_999}
        ),
    ]


def rows_of(card: str) -> dict[str, dict[str, str]]:
    """Return the table of figures: precision → head → cell."""
    lines = [line for line in card.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert {len(row) for row in cells} == {len(cells[0])}
    return {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}


def section(card: str, name: str) -> str:
    return card.split(f"## {name}\n\n")[1].split("\n\n## ")[0]


def test_front_matter_is_the_hub_s(records, run):
    card = model_card(records, run, picked="int8", files=FILES)
    matter = yaml.safe_load(card.split("---\n")[1])
    assert matter["library_name"] == "onnx"
    assert "image-classification" in matter["tags"]
    assert matter["metrics"] == ["accuracy"]
    assert matter["license"] == "other"  # three of them
    assert matter["license_link"] == "README.md"


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        ({}, "unknown"),
        ({"code": "Apache-2.0", "weights": "apache-2.0"}, "apache-2.0"),
        ({"code": "Mine"}, "other"),
    ],
)
def test_front_matter_names_a_licence_that_holds_for_all(licences, expected, old, run):
    record = old.model_copy(update={"licences": licences})
    card = model_card([record], run, picked=None, files=FILES)
    assert yaml.safe_load(card.split("---\n")[1])["license"] == expected


def test_every_precision_has_its_row(records, run):
    rows = rows_of(model_card(records, run, picked="int8", files=FILES))
    assert list(rows) == ["fp32", "int8 (picked)", "w8"]
    whole, narrow, stored = rows.values()
    assert whole["file"] == "`model.onnx`"
    assert whole["bytes"] == f"{records[0].size_bytes:,}"
    assert whole["accuracy, validation"] == "81.2 % (79.6 % to 82.8 %)"
    assert whole["accuracy, test"] == "80.1 % (77.6 % to 82.3 %)"
    assert whole["latency p50"] == "not measured"
    assert narrow["accuracy, test"] == "not measured"
    assert narrow["accuracy lost against float32"] == "0.22 (−0.18 to 0.62)"
    assert narrow["latency p50"] == "0.0873 ms on AMD EPYC \\| 1 thread"
    assert stored["bytes, unpacked"] == "337,066"
    assert {stored[name] for name in ("accuracy, validation", "accuracy lost against float32")} == {
        "not measured"
    }


def test_a_record_of_the_first_versions_makes_a_card_too(old, run):
    card = model_card([old], run, picked=None, files=FILES)
    (row,) = rows_of(card).values()
    assert row["accuracy, validation"] == f"{100 * old.accuracy('validation'):.1f} %"
    assert "bytes, unpacked" not in row
    assert section(card, "Licences").strip() == "Licences: not recorded."


def test_verified_accuracy_stands_in_for_a_part(records, run):
    (row,) = rows_of(
        model_card([records[1].model_copy(update={"parts": []})], run, picked=None, files=FILES)
    ).values()
    assert row["accuracy, validation"] == "81.0 %"
    assert "accuracy, test" not in row


def test_training_and_data_are_told(records, run):
    training = section(model_card(records, run, picked=None, files=FILES), "How it was trained")
    assert "its teacher" in training
    assert f"- Epochs: {records[0].epochs}." in training
    assert "- learning rate: 0.003123" in training
    assert "- views: \\[1, 2\\]" in training
    assert "goods69, 11,000 pictures, 69 classes" in training
    assert run.data.split.hash in training
    assert "int8: ranges from 512 training pictures, then 3 epochs with rounding simulated" in training
    assert "float stem: true" in training


def test_limits_are_told(records, run):
    limits = section(model_card(records, run, picked=None, files=FILES), "Limits")
    assert "one of its 69 labels" in limits
    assert "renderings of 3D models" in limits
    assert "The split is random" in limits
    assert "fp32 on test: calibration error 4.2 %, 1.9 % at the temperature 1.32" in limits
    assert "mean cost of an answer 0.251" in limits
    assert "Accuracy may be as low as 77.6 %: fp32 on test." in limits
    assert "w8 on" not in limits


def test_limits_hold_for_the_data_at_hand(records, run):
    split = SplitRecord(scheme="by-group", seed=0, hash="ab", train=3, validation=2, test=1)
    data = run.data.model_copy(
        update={"name": "my_cups", "split": split, "rejected": [("a.png", "damaged"), ("b.png", "empty")]}
    )
    other = run.model_copy(update={"data": data, "status": "interrupted", "warnings": ["disk *nearly* full"]})
    limits = section(model_card(records, other, picked=None, files=FILES), "Limits")
    assert "renderings" not in limits
    assert "random" not in limits
    assert "2 pictures of the data set couldn't be read" in limits
    assert "recorded as interrupted" in limits
    assert "disk \\*nearly\\* full" in limits


def test_a_run_without_data_says_so(records, run):
    card = model_card(records, run.model_copy(update={"data": None}), picked=None, files=FILES)
    assert "- Classes: not recorded." in card
    assert "- Data: not recorded." in card


def test_names_can_t_break_the_markdown(old, run):
    data = run.data.model_copy(update={"classes": ["a|b", "<script>", "*c*", "two\nlines"]})
    card = model_card([old], run.model_copy(update={"data": data}), picked=None, files=FILES)
    assert "4: a\\|b, \\<script\\>, \\*c\\*, two lines." in card


def test_what_makes_no_card_is_refused(records, run):
    with pytest.raises(UsageError, match="found: none"):
        model_card([], run, picked=None, files=FILES)
    with pytest.raises(UsageError, match="found: fp32, fp32"):
        model_card([records[0]] * 2, run, picked=None, files=FILES)
    with pytest.raises(UsageError, match="found none for int8"):
        model_card(records, run, picked=None, files={"fp32": "model.onnx"})
    with pytest.raises(UsageError, match="'fp16' can't be picked: there are records of fp32, int8, w8"):
        model_card(records, run, picked="fp16", files=FILES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of an exported file and a photograph that isn't square and lies on its side."""
    folder = tmp_path_factory.mktemp("shipped")
    network = build("household_s", classes=len(LABELS), seed=0)
    export_onnx(network, folder / "my model.onnx", image_size=SIZE, labels=LABELS, metadata={})
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90°
    Image.fromarray(load_sample_images().images[1]).save(folder / "picture.jpg", quality=95, exif=exif)
    return folder


def test_snippet_answers_as_hkbench_does(folder, old, run):
    card = model_card(
        [old.model_copy(update={"image_size": SIZE})], run, picked="fp32", files={"fp32": "my model.onnx"}
    )
    (snippet,) = re.findall(r"```python\n(.*?)```", section(card, "How to run it"), flags=re.DOTALL)
    assert len(snippet.splitlines()) <= 16
    assert f"(batch, 3, {SIZE}, {SIZE})" in card
    told = "print(json.dumps([logits[0].tolist(), pictures[0].tolist()]))"
    command = [sys.executable, "-W", "error", "-c", f"{snippet}{told}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    answer, figures = done.stdout.decode().splitlines()
    logits, pictures = (np.array(found, dtype=np.float32) for found in json.loads(figures))
    classifier = OnnxClassifier(folder / "my model.onnx")
    decoded = decode((folder / "picture.jpg").read_bytes(), SIZE)
    assert np.abs(255 * pictures - decoded).max() <= 3  # Pillow's filter is a little different from torch's
    (expected,) = classifier.logits(decoded[None])
    np.testing.assert_allclose(logits, expected, atol=0.02 * np.abs(expected).max())
    assert answer == LABELS[expected.argmax()]
