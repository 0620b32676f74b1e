"""The losses of a student: one module each, and one line here."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from hkbench.errors import UsageError, unknown
from hkbench.training.losses.config import LossArguments, LossConfig
from hkbench.training.losses.dist import configure_dist, dist_terms
from hkbench.training.losses.dkd import configure_dkd, dkd_terms
from hkbench.training.losses.hard import configure_hard
from hkbench.training.losses.kd import configure_kd, kd_terms
from hkbench.training.losses.lskd import configure_lskd, lskd_terms

__all__ = ["LOSSES", "Loss", "LossArguments", "LossConfig", "compute_loss", "loss_config"]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss of the registry.

    `configure` turns arguments into effective weights. `terms` takes the student's and the teacher's logits,
    both float32 (batch, classes), the labels, the weights and the temperature, and gives the weighted sum of
    all terms but `hard`, a float32 scalar; None where there are none.
    """

    configure: Callable[[LossArguments], LossConfig]
    terms: Callable[[Tensor, Tensor, Tensor, LossConfig, float], Tensor] | None = None


LOSSES: dict[str, Loss] = {
    "hard": Loss(configure=configure_hard),
    "kd": Loss(configure=configure_kd, terms=kd_terms),
    "dkd": Loss(configure=configure_dkd, terms=dkd_terms),
    "dist": Loss(configure=configure_dist, terms=dist_terms),
    "lskd": Loss(configure=configure_lskd, terms=lskd_terms),
}


def loss_config(
    name: str,
    *,
    alpha: float | None = None,
    beta: float | None = None,
    gamma: float | None = None,
    temperature: float | None = None,
    hard_weight: float | None = None,
    soft_weight: float | None = None,
    label_smoothing: float = 0.0,
) -> LossConfig:
    """Turn a loss's name and its paper's arguments into its effective weights.

    An argument that is None takes the paper's value where there is one; one that the loss doesn't know is
    left alone, since a space may set it for another of its losses.

    Raises:
        UsageError: an unknown name, an argument that has no default and is missing, or a value out of range.
    """
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    if not 0 <= label_smoothing < 1:
        raise UsageError(f"label_smoothing must lie in [0, 1), found {label_smoothing}.")
    return LOSSES[name].configure(
        LossArguments(
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            temperature=temperature,
            hard_weight=hard_weight,
            soft_weight=soft_weight,
            label_smoothing=label_smoothing,
        )
    )


def compute_loss(
    student_logits: Tensor, labels: Tensor, teacher_logits: Tensor | None, config: LossConfig
) -> Tensor:
    """Return the loss of a batch as a float32 scalar, computed in float32 whatever the logits' precision.

    Args:
        student_logits: (batch, classes), any floating dtype.
        labels: int64 (batch,), or float32 (batch, classes), the classes' probabilities (mixup).
        teacher_logits: (batch, classes) of the very same views; not read where no teacher is needed.
        config: the effective weights.

    Raises:
        ValueError: the loss needs a teacher and none was given.
    """
    student = student_logits.float()
    if not config.needs_teacher:
        return _hard(student, labels, config)
    terms = LOSSES[config.name].terms
    if teacher_logits is None or config.temperature is None or terms is None:
        raise ValueError(f"the loss '{config.name}' needs teacher logits and a temperature")
    soft = terms(student, teacher_logits.float(), labels, config, config.temperature)
    return soft if config.weight_hard == 0 else _hard(student, labels, config) + soft


def _hard(student: Tensor, labels: Tensor, config: LossConfig) -> Tensor:
    return config.weight_hard * functional.cross_entropy(
        student, labels, label_smoothing=config.label_smoothing
    )
