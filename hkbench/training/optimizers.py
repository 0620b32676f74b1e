"""Optimisers by name, and the learning-rate schedule that goes with all of them."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hkbench.errors import UsageError, unknown


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """What an optimiser needs; the learning rate is the peak of the schedule, per step."""

    name: str = "sgd"
    learning_rate: float = 0.05
    weight_decay: float = 1e-4
    momentum: float = 0.9


def sgd_nesterov(groups: Iterable[dict[str, Any]], config: OptimizerConfig) -> Optimizer:
    """Build SGD with Nesterov momentum (Sutskever et al. 2013)."""
    return torch.optim.SGD(
        groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0, fused=True
    )


def adamw(groups: Iterable[dict[str, Any]], config: OptimizerConfig) -> Optimizer:
    """Build AdamW (arXiv 1711.05101); `momentum` is its first beta."""
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.momentum, 0.999), fused=True)


OPTIMIZERS: dict[str, Callable[[Iterable[dict[str, Any]], OptimizerConfig], Optimizer]] = {
    "sgd": sgd_nesterov,
    "adamw": adamw,
}


def build_optimizer(network: nn.Module, config: OptimizerConfig) -> Optimizer:
    """Build the named optimiser over the trainable parameters; norms and biases get no weight decay.

    Raises:
        UsageError: an unknown name, or a learning rate, weight decay or momentum out of range.
    """
    if config.name not in OPTIMIZERS:
        raise unknown("optimizer", config.name, OPTIMIZERS)
    if not config.learning_rate > 0 or config.weight_decay < 0 or not 0 <= config.momentum < 1:
        raise UsageError(
            "An optimizer needs learning_rate above 0, weight_decay of at least 0 and momentum in [0, 1); "
            f"found {config.learning_rate}, {config.weight_decay} and {config.momentum}."
        )
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return OPTIMIZERS[config.name](groups, config)


def cosine_factor(step: int, steps: int, warmup_steps: int) -> float:
    """Return the factor on the peak learning rate: linear warm-up, then half a cosine down to 0.

    Source: arXiv 1608.03983, equation 5, without restarts.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def cosine_schedule(optimizer: Optimizer, steps: int, warmup_steps: int) -> LambdaLR:
    """Build the cosine schedule with warm-up, to be stepped once for each optimiser step."""
    return LambdaLR(optimizer, lambda step: cosine_factor(step, steps, warmup_steps))
