import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, top_k_accuracy_score
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
)

from hkbench.analysis.metrics import DIRECTIONS, METRICS, metrics_of


@given(st.integers(1, 40), st.integers(6, 9), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50)
def test_metrics_are_those_of_torchmetrics(n: int, classes: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    # Different logits within a picture: of equal ones torchmetrics may take another than the first.
    logits = generator.permuted(np.tile(np.linspace(-3, 2, classes), (n, 1)), axis=1).astype(np.float16)
    labels = generator.integers(0, classes, n)
    found = metrics_of(logits, labels)
    scores, truth = torch.from_numpy(logits.astype(np.float64)), torch.from_numpy(labels)
    shares = scores.softmax(dim=1)
    expected = {
        "accuracy": multiclass_accuracy(scores, truth, classes, average="micro"),
        "top5": multiclass_accuracy(scores, truth, classes, average="micro", top_k=5),
        "macro_f1": multiclass_f1_score(scores, truth, classes, average="macro"),
        "log_loss": torch.nn.functional.cross_entropy(scores, truth),
        "calibration_error": multiclass_calibration_error(shares, truth, classes, n_bins=15, norm="l1"),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value.item(), abs=1e-5), name


@given(st.integers(1, 40), st.integers(6, 9), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50)
def test_metrics_are_those_of_scikit_learn(n: int, classes: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.integers(-3, 4, (n, classes)).astype(np.float64)  # with equal ones
    labels = generator.integers(0, classes, n)
    found, answers, every = metrics_of(logits, labels), logits.argmax(axis=1), np.arange(classes)
    _, recall, f1, _ = precision_recall_fscore_support(labels, answers, labels=every, zero_division=np.nan)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, answers))
    assert found["balanced_accuracy"] == pytest.approx(np.nanmean(recall))
    assert found["macro_f1"] == pytest.approx(np.nanmean(f1))
    # scikit-learn lets the last of equal logits come first, so the classes are counted from the end.
    top5 = top_k_accuracy_score(classes - 1 - labels, logits[:, ::-1], k=5, labels=every)
    assert found["top5"] == pytest.approx(top5)


def test_every_metric_is_there_with_its_direction() -> None:
    found = metrics_of(np.eye(7) * 9, np.arange(7))
    assert tuple(found) == METRICS == tuple(DIRECTIONS)
    guessed = metrics_of(np.eye(7) * 9, (np.arange(7) + 1) % 7)
    for name, direction in DIRECTIONS.items():
        better, worse = (guessed, found) if direction == "minimize" else (found, guessed)
        assert better[name] >= worse[name], name


def test_every_class_counts_the_same_in_balanced_accuracy_and_macro_f1() -> None:
    labels = np.array([0] * 8 + [1, 2])
    answers = np.array([0] * 8 + [0, 2])
    found = metrics_of(np.eye(4)[answers], labels)
    assert found["accuracy"] == pytest.approx(0.9)
    assert found["balanced_accuracy"] == pytest.approx((1 + 0 + 1) / 3)
    # Class 3 is neither a label nor an answer; class 1 is never answered.
    assert found["macro_f1"] == pytest.approx((16 / 17 + 0 + 1) / 3)


def test_a_class_that_is_only_answered_counts_in_macro_f1_alone() -> None:
    found = metrics_of(np.eye(3)[[0, 2]], np.array([0, 0]))
    assert found["balanced_accuracy"] == 0.5
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


@pytest.mark.parametrize("classes", [2, 5])
def test_top5_of_five_classes_or_fewer_is_one(classes: int) -> None:
    assert metrics_of(np.eye(classes), (np.arange(classes) + 1) % classes)["top5"] == 1.0


def test_of_equal_logits_the_first_come_first_in_the_answer_and_in_the_top_five() -> None:
    found = metrics_of(np.zeros((6, 6)), np.arange(6))
    assert found["accuracy"] == pytest.approx(1 / 6)
    assert found["top5"] == pytest.approx(5 / 6)
    assert metrics_of(np.zeros((1, 6)), np.array([5]))["top5"] == 0.0


def test_huge_logits_have_a_finite_loss_that_is_not_cut_off() -> None:
    found = metrics_of(np.array([[60000.0, -60000.0]]), np.array([1]))
    assert found["log_loss"] == pytest.approx(120000, rel=1e-3)


def test_logits_are_rounded_as_they_are_stored() -> None:
    logits = np.array([[1.0, 1.0001], [3.0, 0.0]], dtype=np.float32)
    labels = np.array([1, 0])
    assert metrics_of(logits, labels) == metrics_of(logits.astype(np.float16), labels)
    assert metrics_of(logits, labels)["accuracy"] == 0.5


def test_metrics_of_no_picture_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        metrics_of(np.empty((0, 3)), np.empty(0, dtype=np.int64))


def test_a_training_worker_gets_metrics_without_scikit_learn_and_what_it_brings_along() -> None:
    code = (
        "import sys, numpy as np; from hkbench.analysis.metrics import metrics_of;"
        "metrics_of(np.eye(7), np.arange(7));"
        "print(sorted({'sklearn', 'scipy.stats', 'pandas', 'torchmetrics'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_metrics_does_not_wait_for_scikit_learn() -> None:
    code = (
        "import sys, hkbench.analysis.evaluation, hkbench.analysis.compare;"
        "print(sorted({'sklearn', 'scipy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
