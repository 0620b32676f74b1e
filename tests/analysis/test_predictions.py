from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from hkbench.analysis.metrics import metrics_of
from hkbench.analysis.predictions import (
    PredictionBlock,
    class_accuracy,
    confusion,
    correct,
    read_predictions,
    write_predictions,
)
from hkbench.errors import UsageError


def block(model_id: str, part: str = "test", n: int = 4, classes: int = 3) -> PredictionBlock:
    generator = np.random.default_rng(len(model_id) + n)
    return PredictionBlock(
        model_id=model_id,
        part=part,
        picture_ids=[f"картинка-{i}" for i in range(n)],
        groups=None if part == "test" else [f"product-{i // 2}" for i in range(n)],
        labels=generator.integers(0, classes, n),
        logits=generator.normal(size=(n, classes)).astype(np.float16),
    )


def test_what_is_written_is_read_in_the_same_order(tmp_path: Path) -> None:
    written = [block("zebra"), block("ant", "validation", 6), block("ant", n=5)]
    write_predictions(tmp_path / "predictions.parquet", written)
    found = read_predictions(tmp_path / "predictions.parquet")
    assert [(one.model_id, one.part, len(one.labels)) for one in found] == [
        ("zebra", "test", 4),
        ("ant", "validation", 6),
        ("ant", "test", 5),
    ]
    for one, other in zip(found, written, strict=True):
        assert one.picture_ids == other.picture_ids
        assert one.groups == other.groups
        assert one.labels.tolist() == other.labels.tolist()
        assert one.logits.dtype == np.float16
        assert (one.logits == other.logits).all()


def test_no_file_is_no_blocks(tmp_path: Path) -> None:
    write_predictions(tmp_path / "none.parquet", [])
    assert read_predictions(tmp_path / "none.parquet") == []


def test_a_file_cut_short_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    write_predictions(path, [block("a")])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UsageError, match=r"predictions\.parquet"):
        read_predictions(path)


def test_blocks_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    with pytest.raises(ValueError, match="number of classes"):
        write_predictions(path, [block("a"), block("b", classes=5)])
    with pytest.raises(ValueError, match="differ in length"):
        write_predictions(path, [replace(block("a"), picture_ids=["one"])])
    assert not path.exists()


def test_correct_is_the_accuracy_picture_by_picture() -> None:
    one = block("a", n=20)
    assert correct(one).mean() == metrics_of(one.logits, one.labels)["accuracy"]


@given(st.integers(2, 8), st.integers(1, 60), st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_confusion_and_class_accuracy_are_those_of_torchmetrics(classes: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    answers = PredictionBlock(
        model_id="m",
        part="test",
        picture_ids=[str(number) for number in range(n)],
        groups=None,
        labels=rng.integers(0, classes, n),
        logits=rng.permuted(np.tile(np.arange(classes, dtype=np.float16), (n, 1)), axis=1),
    )
    logits, labels = torch.from_numpy(answers.logits.astype(np.float32)), torch.from_numpy(answers.labels)
    expected = MulticlassConfusionMatrix(num_classes=classes)(logits, labels)
    assert confusion(answers).tolist() == expected.tolist()
    found = class_accuracy(confusion(answers))
    seen = np.bincount(answers.labels, minlength=classes) > 0
    by_class = MulticlassAccuracy(num_classes=classes, average=None)(logits, labels).numpy()
    np.testing.assert_allclose(found[seen], by_class[seen], rtol=1e-6)
    assert np.isnan(found[~seen]).all()
