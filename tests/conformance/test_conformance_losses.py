"""Every loss of the registry: a finite scalar with finite gradients in every precision, its weights told."""

import pytest
import torch

from hkbench.training.losses import LOSSES, compute_loss, loss_config

BATCH, CLASSES = 6, 5


def configured(name):
    return loss_config(name, alpha=0.4, temperature=3.0, label_smoothing=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_a_finite_scalar_with_finite_gradients(name, dtype):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(BATCH, CLASSES, generator=generator).to(dtype).requires_grad_()
    teacher = torch.randn(BATCH, CLASSES, generator=generator).half()
    loss = compute_loss(student, torch.arange(BATCH) % CLASSES, teacher, configured(name))
    loss.backward()
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()
    assert student.grad.any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_tells_its_name_and_effective_weights(name):
    config = configured(name)
    assert config.name == name
    assert config.weight_hard + config.weight_soft > 0
    assert (config.temperature is not None) == config.needs_teacher


@pytest.mark.parametrize("name", LOSSES)
def test_a_right_answer_costs_less_than_a_wrong_one(name):
    labels = torch.arange(CLASSES)
    right = 8 * torch.eye(CLASSES)
    wrong = right.roll(1, dims=1)
    losses = [float(compute_loss(logits, labels, right, configured(name))) for logits in (right, wrong)]
    assert losses[0] < losses[1]
