"""The distillation loss against an independent computation in float64, and its traps."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, softmax

from hkbench.errors import UsageError
from hkbench.training.losses import compute_loss, loss_config

LOGITS = arrays(np.float32, (5, 7), elements=st.floats(-30, 30, width=32))


def expected(student, teacher, labels, alpha, temperature):
    student, teacher = student.astype(np.float64), teacher.astype(np.float64)
    hard = -log_softmax(student, axis=1)[np.arange(len(labels)), labels].mean()
    p = softmax(teacher / temperature, axis=1)
    divergence = (
        p * (log_softmax(teacher / temperature, axis=1) - log_softmax(student / temperature, axis=1))
    ).sum(1)
    return alpha * hard + (1 - alpha) * temperature**2 * divergence.mean()


@given(LOGITS, LOGITS, st.floats(0, 1), st.floats(1, 10))
def test_kd_equals_the_papers_formula_in_float64(student, teacher, alpha, temperature):
    labels = np.array([0, 1, 2, 3, 6])
    found = compute_loss(
        torch.from_numpy(student),
        torch.from_numpy(labels),
        torch.from_numpy(teacher),
        loss_config("kd", alpha=alpha, temperature=temperature),
    )
    assert float(found) == pytest.approx(
        expected(student, teacher, labels, alpha, temperature), rel=1e-4, abs=1e-4
    )


def test_effective_weights_are_recorded_with_t_squared():
    config = loss_config("kd", alpha=0.3, temperature=2)
    assert (config.weight_hard, config.weight_soft, config.temperature) == (0.3, pytest.approx(2.8), 2)


def test_alpha_zero_keeps_t_squared():
    student, teacher = torch.randn(4, 3), torch.randn(4, 3)
    labels = torch.zeros(4, dtype=torch.long)
    soft = compute_loss(student, labels, teacher, loss_config("kd", alpha=0, temperature=4))
    assert float(soft) == pytest.approx(
        expected(student.numpy(), teacher.numpy(), labels.numpy(), 0, 4), rel=1e-4
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_extreme_logits_give_finite_gradients(dtype):
    student = torch.tensor([[6e4, -6e4, 0.0], [-6e4, 6e4, 0.0]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-6e4, 6e4, 0.0], [6e4, -6e4, 0.0]], dtype=torch.float16)
    loss = compute_loss(student, torch.tensor([1, 0]), teacher, loss_config("kd", alpha=0.3, temperature=1))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


def test_a_student_equal_to_its_teacher_has_no_soft_loss():
    logits = torch.randn(8, 5)
    loss = compute_loss(
        logits, torch.zeros(8, dtype=torch.long), logits, loss_config("kd", alpha=0, temperature=3)
    )
    assert float(loss) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "kdd"}, "Did you mean 'kd'"),
        ({"name": "kd"}, "needs both"),
        ({"name": "kd", "alpha": 1.5, "temperature": 2}, r"\[0, 1\], found 1.5"),
        ({"name": "kd", "alpha": 0.5, "temperature": 0}, "above 0, found 0"),
    ],
)
def test_bad_losses_are_refused_in_a_line(arguments, message):
    with pytest.raises(UsageError, match=message):
        loss_config(**arguments)
