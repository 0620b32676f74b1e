"""Which parameters share a learning rate and a weight decay."""

from torch import nn

from hkbench.models.classifier import Classifier
from hkbench.training.optimizers.config import Groups, OptimizerConfig


def parameter_groups(network: nn.Module, config: OptimizerConfig, rate: float) -> Groups:
    """Return the trainable parameters in groups, those at the head's learning rate first.

    There are two groups for each learning rate, one of them without weight decay: norms, biases and all else
    of at most one dimension. The stages of a `Classifier` may have rates of their own, a plain network is all
    head.
    """
    by_factor: dict[float, list[nn.Parameter]] = {1.0: []}  # the head's first, whose rate is what users see
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            by_factor.setdefault(_factor(network, name, config), []).append(parameter)
    return [
        {
            "params": [each for each in parameters if (each.ndim > 1) == decays],
            "lr": rate * factor,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for factor, parameters in by_factor.items()
        for decays in (True, False)
    ]


def _factor(network: nn.Module, parameter: str, config: OptimizerConfig) -> float:
    """Return a parameter's learning rate as a multiple of the head's."""
    if not isinstance(network, Classifier):
        return 1.0
    below = len(network.stages) - network.stage_of(parameter)
    return config.body_rate * config.layer_decay**below if below else 1.0
