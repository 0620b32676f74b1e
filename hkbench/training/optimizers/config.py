"""What an optimiser needs to know, and what the registry knows of each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

Groups = list[dict[str, Any]]
"""Parameter groups as torch takes them: `params`, `lr` and `weight_decay`."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """An optimiser by name with its rates.

    Attributes:
        name: a key of `OPTIMIZERS`.
        learning_rate: of the head, the peak of the schedule, a step; None is the optimiser's own default.
        weight_decay: coupled to the gradient (L2) for SGD, RMSprop, Adagrad, Adadelta and Adam; decoupled,
            so that a weight shrinks by learning rate · weight decay, for AdamW, NAdamW, Lion and Muon.
        momentum: in [0, 1); of the methods of Adam's family the first beta. Some take none.
        body_rate: the body's learning rate as a multiple of the head's.
        layer_decay: stage s of n, counted from 0, learns at layer_decay^(n − s) of the body's rate: less, the
            nearer it is to the picture (arXiv 2003.10555, appendix A; arXiv 2106.08254, section 3.1).
    """

    name: str = "sgd"
    learning_rate: float | None = None
    weight_decay: float = 1e-4
    momentum: float = 0.9
    body_rate: float = 1.0
    layer_decay: float = 1.0


@dataclass(frozen=True, kw_only=True)
class OptimizerEntry:
    """An optimiser of the registry.

    Attributes:
        builder: takes parameter groups, the learning rate and the momentum.
        learning_rate: the default, at batches of 64.
        learning_rates: the range that is sensible to search, on a logarithmic scale, both ends included.
        weight_decays: likewise, for a network with batch norms on small pictures.
        source: the paper.
    """

    builder: Callable[[Groups, float, float], Optimizer]
    learning_rate: float
    learning_rates: tuple[float, float]
    weight_decays: tuple[float, float]
    source: str
