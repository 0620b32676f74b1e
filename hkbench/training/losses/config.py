"""What a loss is told and what it becomes: arguments under their papers' names, effective weights."""

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from hkbench.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class LossArguments:
    """What a user may set, under the papers' names; None is the paper's own value where it has one.

    A space sets them for all of its losses at once, so a loss leaves alone what it doesn't know.
    """

    alpha: float | None = None
    beta: float | None = None
    gamma: float | None = None
    temperature: float | None = None
    hard_weight: float | None = None
    soft_weight: float | None = None
    label_smoothing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """A loss with its effective weights: the sum over its terms of weight · term.

    A weight holds everything that multiplies its term, T² included. The term `hard` is the cross-entropy
    with the labels; all others compare the student with its teacher.
    """

    name: str
    weights: tuple[tuple[str, float], ...] = (("hard", 1.0),)
    temperature: float | None = None
    label_smoothing: float = 0.0

    def weight(self, term: str) -> float:
        """Return the effective weight of a term, 0 for one that the loss doesn't have."""
        return next((weight for name, weight in self.weights if name == term), 0.0)

    @property
    def weight_hard(self) -> float:
        """The effective weight of the labels' cross-entropy."""
        return self.weight("hard")

    @property
    def weight_soft(self) -> float:
        """The sum of the effective weights of all terms that read the teacher."""
        return sum(weight for name, weight in self.weights if name != "hard")

    @property
    def needs_teacher(self) -> bool:
        """Whether the loss reads teacher logits."""
        return self.weight_soft > 0


def share(name: str, value: float) -> float:
    """Return a value that must be a share, in [0, 1].

    Raises:
        UsageError: it is not.
    """
    if not 0 <= value <= 1:
        raise UsageError(f"{name} must lie in [0, 1], found {value}.")
    return value


def not_negative(name: str, value: float) -> float:
    """Return a value that must be a finite number of at least 0.

    Raises:
        UsageError: it is not.
    """
    if not 0 <= value < math.inf:
        raise UsageError(f"{name} must be a finite number of at least 0, found {value}.")
    return value


def positive(name: str, value: float) -> float:
    """Return a value that must be a finite number above 0.

    Raises:
        UsageError: it is not.
    """
    if not 0 < value < math.inf:
        raise UsageError(f"{name} must be a finite number above 0, found {value}.")
    return value


def weighed_by_alpha(name: str, alpha: float, temperature: float, label_smoothing: float) -> LossConfig:
    """Configure `α·CE + (1−α)·T²·soft`, for losses with one term `soft` that reads the teacher.

    Raises:
        UsageError: α is outside [0, 1], or T is not above 0.
    """
    alpha, temperature = share("alpha", alpha), positive("temperature", temperature)
    return LossConfig(
        name=name,
        weights=(("hard", alpha), ("soft", (1 - alpha) * temperature**2)),
        temperature=temperature,
        label_smoothing=label_smoothing,
    )


def divergence(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean over the batch of KL(wanted ‖ found), a scalar.

    Both are log-probabilities, (batch, outcomes): a logarithm of a probability that has become 0 would be
    −inf. It is a mean over the batch alone; one over the outcomes too would be that many times too small.
    """
    return functional.kl_div(found, wanted, reduction="batchmean", log_target=True)
