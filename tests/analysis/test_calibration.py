import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassCalibrationError

from hkbench.analysis.calibration import confidence_bins, expected_calibration_error, fit_temperature


def drawn(temperature: float, n: int = 6000, classes: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `temperature` times too large for how often they are right."""
    generator = np.random.default_rng(0)
    exact = generator.normal(scale=1.5, size=(n, classes))
    shares = np.exp(exact) / np.exp(exact).sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) < generator.uniform(size=(n, 1))).sum(axis=1)
    return temperature * exact, labels.clip(max=classes - 1)


@given(st.integers(1, 200), st.integers(2, 9), st.floats(0.1, 8), st.integers(0, 2**31))
@settings(deadline=None, max_examples=50)
def test_the_error_is_that_of_torchmetrics(n: int, classes: int, scale: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits = torch.from_numpy(generator.normal(scale=scale, size=(n, classes)))
    labels = torch.from_numpy(generator.integers(0, classes, n))
    # float32, so that both see the same confidences; there 1 is a bin of its own, here the last one's edge.
    shares = logits.softmax(dim=1).float().clamp(max=0.999999)
    expected = MulticlassCalibrationError(num_classes=classes, n_bins=15, norm="l1")(shares, labels)
    found = expected_calibration_error(
        shares.max(dim=1).values.numpy(), (shares.argmax(dim=1) == labels).numpy()
    )
    assert found == pytest.approx(expected.item(), abs=1e-5)


def test_a_bin_holds_its_upper_edge_and_the_last_holds_one() -> None:
    edges = np.linspace(0, 1, 16)
    assert confidence_bins(edges[1:]).tolist() == list(range(15))
    assert confidence_bins(np.nextafter(edges[1:-1], 1)).tolist() == list(range(1, 15))


def test_confidence_that_is_the_share_of_right_answers_has_no_error() -> None:
    right = np.array([True] * 8 + [False] * 2)
    assert expected_calibration_error(np.full(10, 0.8), right) == pytest.approx(0)
    assert expected_calibration_error(np.full(10, 1.0), right) == pytest.approx(0.2)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_the_temperature_that_was_put_in_is_found(temperature: float) -> None:
    assert fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.05)


def test_the_log_loss_is_flat_at_the_temperature() -> None:
    logits, labels = drawn(3.0, n=500)
    found = fit_temperature(logits, labels)
    assert found is not None
    log_temperature = torch.tensor(np.log(found), requires_grad=True)
    scaled = torch.from_numpy(logits) / log_temperature.exp()
    torch.nn.functional.cross_entropy(scaled, torch.from_numpy(labels)).backward()
    assert log_temperature.grad is not None
    assert abs(log_temperature.grad.item()) < 1e-4


@pytest.mark.parametrize("shift", [0, 1])
def test_answers_that_are_all_right_or_all_wrong_have_no_temperature(shift: int) -> None:
    labels = np.arange(20) % 4
    assert fit_temperature(3 * np.eye(4)[(labels + shift) % 4], labels) is None


def test_where_temperature_changes_nothing_it_is_one() -> None:
    assert fit_temperature(np.zeros((9, 4)), np.arange(9) % 4) == 1.0
