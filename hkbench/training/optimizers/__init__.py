"""Optimisers by name: a builder of torch's or timm's own, the rates that suit it, and one line here."""

from torch import nn
from torch.optim import Optimizer

from hkbench.errors import UsageError, unknown
from hkbench.training.optimizers import builders
from hkbench.training.optimizers.config import OptimizerConfig, OptimizerEntry
from hkbench.training.optimizers.groups import parameter_groups

__all__ = [
    "LARGEST_RATE",
    "OPTIMIZERS",
    "OptimizerConfig",
    "OptimizerEntry",
    "build_optimizer",
    "check_optimizer",
    "divides_by_scale",
    "peak_rate",
]

LARGEST_RATE = 1e6
"""A larger learning rate is a slip. Trainings diverge far below, and say so with their step and rate."""

OPTIMIZERS: dict[str, OptimizerEntry] = {
    "sgd": OptimizerEntry(
        builder=builders.sgd,
        learning_rate=0.05,
        learning_rates=(0.01, 0.2),
        weight_decays=(1e-5, 1e-3),
        source="Nesterov momentum: Sutskever et al. 2013, https://proceedings.mlr.press/v28/sutskever13.html",
    ),
    "momentum": OptimizerEntry(
        builder=builders.heavy_ball,
        learning_rate=0.05,
        learning_rates=(0.01, 0.2),
        weight_decays=(1e-5, 1e-3),
        source="Polyak 1964, Some methods of speeding up the convergence of iteration methods",
    ),
    "plain_sgd": OptimizerEntry(
        builder=builders.plain_sgd,
        learning_rate=1.0,
        learning_rates=(0.1, 3.0),
        weight_decays=(1e-5, 1e-3),
        source="Robbins and Monro 1951, A stochastic approximation method",
    ),
    "rmsprop": OptimizerEntry(
        builder=builders.rmsprop,
        learning_rate=0.001,
        learning_rates=(0.0002, 0.005),
        weight_decays=(1e-6, 1e-4),
        source="Tieleman and Hinton 2012, lecture 6.5; as in https://arxiv.org/abs/1801.04381, section 6.1",
    ),
    "adagrad": OptimizerEntry(
        builder=builders.adagrad,
        learning_rate=0.03,
        learning_rates=(0.005, 0.1),
        weight_decays=(1e-6, 1e-4),
        source="Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html",
    ),
    "adadelta": OptimizerEntry(
        builder=builders.adadelta,
        learning_rate=1.0,
        learning_rates=(0.2, 5.0),
        weight_decays=(1e-6, 1e-4),
        source="https://arxiv.org/abs/1212.5701",
    ),
    "adam": OptimizerEntry(
        builder=builders.adam,
        learning_rate=0.003,
        learning_rates=(0.0005, 0.01),
        weight_decays=(1e-6, 1e-4),
        source="https://arxiv.org/abs/1412.6980",
    ),
    "adamw": OptimizerEntry(
        builder=builders.adamw,
        learning_rate=0.003,
        learning_rates=(0.0005, 0.01),
        weight_decays=(1e-4, 0.1),
        source="https://arxiv.org/abs/1711.05101",
    ),
    "nadamw": OptimizerEntry(
        builder=builders.nadamw,
        learning_rate=0.003,
        learning_rates=(0.0005, 0.01),
        weight_decays=(1e-4, 0.1),
        source="Dozat 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ, weight decay decoupled",
    ),
    "lion": OptimizerEntry(
        builder=builders.lion,
        learning_rate=0.001,
        learning_rates=(0.0002, 0.003),
        weight_decays=(1e-3, 1.0),
        source="https://arxiv.org/abs/2302.06675",
    ),
    "muon": OptimizerEntry(
        builder=builders.muon,
        learning_rate=0.02,
        learning_rates=(0.001, 0.05),
        weight_decays=(1e-4, 0.1),
        source="Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; https://arxiv.org/abs/2502.16982",
    ),
}


def check_optimizer(config: OptimizerConfig) -> None:
    """Refuse an unknown optimiser, and a value out of its range.

    Raises:
        UsageError: names what was found.
    """
    if config.name not in OPTIMIZERS:
        raise unknown("optimizer", config.name, OPTIMIZERS)
    rate = peak_rate(config)
    ranges = [  # what it is, its value, whether that is in range, the range
        ("learning_rate", rate, 0 < rate <= LARGEST_RATE, f"above 0 and at most {LARGEST_RATE:g}"),
        ("weight_decay", config.weight_decay, 0 <= config.weight_decay < float("inf"), "finite, at least 0"),
        ("momentum", config.momentum, 0 <= config.momentum < 1, "in [0, 1)"),
        ("body_rate", config.body_rate, 0 <= config.body_rate <= 10, "in [0, 10]"),
        ("layer_decay", config.layer_decay, 0 < config.layer_decay <= 1, "in (0, 1]"),
    ]
    for name, value, holds, wanted in ranges:
        if not holds:
            raise UsageError(f"The optimizer '{config.name}' needs {name} {wanted}, found {value:g}.")


def peak_rate(config: OptimizerConfig) -> float:
    """Return the head's learning rate at the schedule's peak: the given one, or the optimiser's default."""
    return OPTIMIZERS[config.name].learning_rate if config.learning_rate is None else config.learning_rate


def build_optimizer(network: nn.Module, config: OptimizerConfig) -> Optimizer:
    """Build the named optimiser over the trainable parameters; norms and biases get no weight decay.

    Raises:
        UsageError: an unknown name, or a value out of range.
    """
    check_optimizer(config)
    rate = peak_rate(config)
    return OPTIMIZERS[config.name].builder(parameter_groups(network, config, rate), rate, config.momentum)


def divides_by_scale(optimizer: Optimizer) -> bool:
    """Whether an optimiser divides the gradients by its `grad_scale` while it steps, as the fused ones do."""
    return all(group.get("fused") for group in optimizer.param_groups)
