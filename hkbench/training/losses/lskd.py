"""Distillation of standardised logits: the student need not match the teacher's scale.

Source: Sun et al., "Logit Standardization in Knowledge Distillation" (arXiv 2403.01427), section 4, and
the authors' code, which divides by the unbiased standard deviation and multiplies by T².
"""

from torch import Tensor
from torch.nn import functional

from hkbench.errors import UsageError
from hkbench.training.losses.config import (
    LossArguments,
    LossConfig,
    divergence,
    not_negative,
    positive,
    weighed_by_alpha,
)

BASE_TEMPERATURE = 2.0
"""The authors' base temperature for most pairs of CIFAR-100."""

VARIANCE_FLOOR = 1e-6
"""Added to the variance of the logits, for equal ones.

The authors add 1e-7 to the standard deviation, with which equal logits of a student get gradients of about
1e7, more than float16 holds. At a standard deviation of 0.1 this floor changes a standardised logit by 1 part
in 20,000.
"""


def configure_lskd(arguments: LossArguments) -> LossConfig:
    """Configure `hard·CE + soft·T²·KL(softmax(Z(t)/T) ‖ softmax(Z(s)/T))`, Z the z-score over the classes.

    The weights are the paper's own two (0.1 and 9 in most of its runs), or α and 1 − α where α is told.

    Raises:
        UsageError: neither α nor both weights are told, or α is outside [0, 1], a weight negative or T not
            above 0.
    """
    temperature = BASE_TEMPERATURE if arguments.temperature is None else arguments.temperature
    hard, soft = arguments.hard_weight, arguments.soft_weight
    if hard is None or soft is None:
        if arguments.alpha is None:
            raise UsageError("The loss 'lskd' needs alpha in [0, 1], or both hard_weight and soft_weight.")
        return weighed_by_alpha("lskd", arguments.alpha, temperature, arguments.label_smoothing)
    temperature = positive("temperature", temperature)
    return LossConfig(
        name="lskd",
        weights=(
            ("hard", not_negative("hard_weight", hard)),
            ("soft", not_negative("soft_weight", soft) * temperature**2),
        ),
        temperature=temperature,
        label_smoothing=arguments.label_smoothing,
    )


def lskd_terms(
    student: Tensor, teacher: Tensor, labels: Tensor, config: LossConfig, temperature: float
) -> Tensor:
    """Return the weighted divergence; both logits are float32 (batch, classes), of two classes or more."""
    del labels
    classes = student.shape[1]
    # layer_norm divides by the biased standard deviation; the unbiased one is larger by this constant.
    temperature = temperature * (classes / (classes - 1)) ** 0.5
    found = functional.layer_norm(student, (classes,), eps=VARIANCE_FLOOR)
    wanted = functional.layer_norm(teacher, (classes,), eps=VARIANCE_FLOOR)
    return config.weight("soft") * divergence(
        functional.log_softmax(found / temperature, dim=1),
        functional.log_softmax(wanted / temperature, dim=1),
    )
