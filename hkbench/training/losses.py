"""Losses of a student: hard labels alone, or hard labels and a teacher's softened outputs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hkbench.errors import UsageError, unknown


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """A loss with its effective weights: `weight_hard · CE + weight_soft · KL(p_T ‖ q_T)`.

    `weight_soft` holds everything that multiplies the divergence, T² included.
    """

    name: str
    weight_hard: float = 1.0
    weight_soft: float = 0.0
    temperature: float | None = None
    label_smoothing: float = 0.0

    @property
    def needs_teacher(self) -> bool:
        """Whether the loss reads teacher logits."""
        return self.weight_soft > 0


def hard_labels(alpha: float | None, temperature: float | None, label_smoothing: float) -> LossConfig:
    """Configure plain cross-entropy: log loss (S11), with smoothed labels where asked for."""
    del alpha, temperature
    return LossConfig(name="hard", label_smoothing=label_smoothing)


def distillation(alpha: float | None, temperature: float | None, label_smoothing: float) -> LossConfig:
    """Configure `α·CE + (1−α)·T²·KL`, the study's loss (S12) in the notation of Hinton et al.

    Raises:
        UsageError: α is outside [0, 1] or T is not positive.
    """
    if alpha is None or temperature is None:
        raise UsageError("The loss 'kd' needs both alpha and temperature.")
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha must lie in [0, 1], found {alpha}.")
    if temperature <= 0:
        raise UsageError(f"temperature must be above 0, found {temperature}.")
    return LossConfig(
        name="kd",
        weight_hard=alpha,
        weight_soft=(1 - alpha) * temperature**2,
        temperature=temperature,
        label_smoothing=label_smoothing,
    )


LOSSES: dict[str, Callable[[float | None, float | None, float], LossConfig]] = {
    "hard": hard_labels,
    "kd": distillation,
}


def loss_config(
    name: str, *, alpha: float | None = None, temperature: float | None = None, label_smoothing: float = 0.0
) -> LossConfig:
    """Turn a loss's name and the study's α and T into its effective weights.

    Raises:
        UsageError: an unknown name, or a value out of range.
    """
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name](alpha, temperature, label_smoothing)


def soft_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return the mean over the batch of KL(softmax(teacher/T) ‖ softmax(student/T)), without the T².

    Both logits are (batch, classes), any floating dtype. The divergence is computed in float32, from
    log-probabilities on both sides, so that extreme logits stay finite.
    """
    target = functional.log_softmax(teacher_logits.float() / temperature, dim=1)
    found = functional.log_softmax(student_logits.float() / temperature, dim=1)
    return functional.kl_div(found, target, reduction="batchmean", log_target=True)


def compute_loss(
    student_logits: Tensor, labels: Tensor, teacher_logits: Tensor | None, config: LossConfig
) -> Tensor:
    """Return the loss of a batch as a float32 scalar.

    Args:
        student_logits: (batch, classes), any floating dtype.
        labels: (batch,), int64.
        teacher_logits: (batch, classes) of the very same views; not read where no teacher is needed.
        config: the effective weights.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015), section 2.
    """
    loss = torch.zeros((), device=student_logits.device)
    if config.weight_hard > 0:
        loss = loss + config.weight_hard * functional.cross_entropy(
            student_logits.float(), labels, label_smoothing=config.label_smoothing
        )
    if config.weight_soft > 0:
        if teacher_logits is None or config.temperature is None:
            raise ValueError(f"the loss '{config.name}' needs teacher logits and a temperature")
        loss = loss + config.weight_soft * soft_divergence(student_logits, teacher_logits, config.temperature)
    return loss
