"""How a batch's inputs go through a network in training: whole, from kept features on, or to both heads."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hkbench.models.classifier import Classifier
from hkbench.training.feed import TrainingData

Outputs = Tensor | tuple[Tensor, Tensor]
"""Logits (batch, classes), or those of the head and of the auxiliary head."""


def forward_of(network: nn.Module, data: TrainingData, *, compiled: bool) -> Callable[[Tensor], Outputs]:
    """Return what makes logits of a batch's inputs.

    An auxiliary head is there to train the body, so it is left out where stages of that are frozen.
    """
    forward: Callable[[Tensor], Outputs] = network
    if data.has_features:
        forward = classifier_of(network).logits_from
    elif isinstance(network, Classifier) and network.auxiliary is not None and not network.frozen_stages:
        forward = network.logits_and_auxiliary
    if not compiled:
        return forward
    torch.compiler.reset()  # a worker that is used for many trials would keep the code of all of them
    on_gpu = next(network.parameters()).is_cuda
    return torch.compile(forward, mode="reduce-overhead" if on_gpu else "default")


def classifier_of(network: nn.Module) -> Classifier:
    """Return the network itself, known to have stages.

    Raises:
        TypeError: it has none.
    """
    if not isinstance(network, Classifier):
        raise TypeError(f"what has stages must be a Classifier, got {type(network).__name__}")
    return network
