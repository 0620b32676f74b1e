"""Training with int8's rounding simulated by torch's own fake quantisation, so that weights get used to it.

Weights are rounded with a scale for each output channel, and what enters a layer with a range that follows
the training; gradients pass as if nothing was rounded (Jacob et al. 2018, arXiv 1712.05877, section 3). A
batch-norm after the layer scales whole channels, so that rounding before it and after folding it are the
same.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.ao.quantization import (
    FakeQuantize,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
)
from torch.nn.utils import parametrize

from hkbench.models.classifier import Classifier
from hkbench.models.counts import fused

ROUNDED = (nn.Conv2d, nn.Linear)


class RoundedTraining:
    """A copy of a network that trains as if it computed in int8; `plain` gives its weights back unrounded."""

    def __init__(self, network: Classifier) -> None:
        self.network: Classifier = fused(network)  # type: ignore[assignment]
        self._layers = [module for module in self.network.modules() if isinstance(module, ROUNDED)]
        self._hooks = [layer.register_forward_pre_hook(_Rounding()) for layer in self._layers]
        for layer in self._layers:
            parametrize.register_parametrization(layer, "weight", _weight_rounding())
        self.network.train()

    def plain(self) -> Classifier:
        """End the simulation and return the network with float weights, in eval mode."""
        for hook in self._hooks:
            hook.remove()
        for layer in self._layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        return self.network.eval()


class _Rounding:
    """Rounds what enters a layer to 8 bits."""

    def __init__(self) -> None:
        self._rounding: Any = _fake_quantize(
            observer=MovingAverageMinMaxObserver,
            quant_min=0,
            quant_max=255,
            dtype=torch.quint8,
            qscheme=torch.per_tensor_affine,
        )

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        """Return the rounded inputs; the range follows them while the layer trains."""
        rounding = self._rounding.to(inputs[0].device)
        rounding.observer_enabled[0] = int(layer.training)
        return (rounding(inputs[0].float()), *inputs[1:])


_fake_quantize: Any = FakeQuantize  # torch leaves its types out


def _weight_rounding() -> nn.Module:
    rounding: nn.Module = _fake_quantize(
        observer=MovingAveragePerChannelMinMaxObserver,
        quant_min=-127,
        quant_max=127,
        dtype=torch.qint8,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        averaging_constant=1.0,
    )
    return rounding
