"""Decoupled distillation: the target against the rest, and the rest among themselves, each weighted alone.

Source: Zhao et al., "Decoupled Knowledge Distillation" (arXiv 2203.08679), section 3, and the authors'
code, which multiplies both terms by T². Its warm-up of the two terms over the first epochs is left out.
"""

import torch
from torch import Tensor
from torch.nn import functional

from hkbench.training.losses.config import LossArguments, LossConfig, divergence, not_negative, positive

ALPHA, BETA, TEMPERATURE = 1.0, 8.0, 4.0
"""The paper's values for most pairs of CIFAR-100; β goes up with the teacher's confidence."""


def configure_dkd(arguments: LossArguments) -> LossConfig:
    """Configure `CE + α·T²·TCKD + β·T²·NCKD`.

    Raises:
        UsageError: α or β is negative, or T is not above 0.
    """
    alpha = not_negative("alpha", ALPHA if arguments.alpha is None else arguments.alpha)
    beta = not_negative("beta", BETA if arguments.beta is None else arguments.beta)
    given = TEMPERATURE if arguments.temperature is None else arguments.temperature
    temperature = positive("temperature", given)
    return LossConfig(
        name="dkd",
        weights=(("hard", 1.0), ("tckd", alpha * temperature**2), ("nckd", beta * temperature**2)),
        temperature=temperature,
        label_smoothing=arguments.label_smoothing,
    )


def dkd_terms(
    student: Tensor, teacher: Tensor, labels: Tensor, config: LossConfig, temperature: float
) -> Tensor:
    """Return the two weighted divergences; both logits are float32 (batch, classes), of two classes or more.

    The target of labels that are probabilities is the most probable class.
    """
    target = (labels if labels.ndim == 1 else labels.argmax(dim=1)).unsqueeze(1)  # (batch, 1)
    places = torch.arange(student.shape[1] - 1, device=student.device)
    rest = places + (places >= target)  # (batch, classes − 1), every class but the target
    found_target, found_rest = _decoupled(student, target, rest, temperature)
    wanted_target, wanted_rest = _decoupled(teacher, target, rest, temperature)
    target_term = config.weight("tckd") * divergence(found_target, wanted_target)
    return target_term + config.weight("nckd") * divergence(found_rest, wanted_rest)


def _decoupled(logits: Tensor, target: Tensor, rest: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of (target, not target), b of the paper, and of the rest alone, p̂.

    The target's column is left out, where the authors' code takes 1000 from its logit, and 1 − p of the
    target is never computed as such, so that both stay finite when p rounds to 1.
    """
    log_probabilities = functional.log_softmax(logits / temperature, dim=1)
    others = log_probabilities.gather(1, rest)
    not_target = others.logsumexp(dim=1, keepdim=True)
    return torch.cat((log_probabilities.gather(1, target), not_target), dim=1), others - not_target
