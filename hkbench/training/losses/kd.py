"""Distillation as it began: the student's softened probabilities follow the teacher's.

Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531), section 2.
"""

from torch import Tensor
from torch.nn import functional

from hkbench.errors import UsageError
from hkbench.training.losses.config import LossArguments, LossConfig, divergence, weighed_by_alpha


def configure_kd(arguments: LossArguments) -> LossConfig:
    """Configure `α·CE + (1−α)·T²·KL(softmax(t/T) ‖ softmax(s/T))`, the study's loss (S12).

    Raises:
        UsageError: α or T is missing, α is outside [0, 1], or T is not above 0.
    """
    if arguments.alpha is None or arguments.temperature is None:
        raise UsageError("The loss 'kd' needs both alpha and temperature.")
    return weighed_by_alpha("kd", arguments.alpha, arguments.temperature, arguments.label_smoothing)


def kd_terms(
    student: Tensor, teacher: Tensor, labels: Tensor, config: LossConfig, temperature: float
) -> Tensor:
    """Return the weighted divergence; both logits are float32 (batch, classes)."""
    del labels
    found = functional.log_softmax(student / temperature, dim=1)
    wanted = functional.log_softmax(teacher / temperature, dim=1)
    return config.weight("soft") * divergence(found, wanted)
