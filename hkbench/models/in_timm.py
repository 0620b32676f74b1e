"""Any network of hkbench's as a model of timm: importing this module makes `hkbench_classifier` known there.

timm learns a name by a call of its `register_model` and in no other way, so that the import does something:
after it `timm.create_model("local-dir:FOLDER", pretrained=True)` opens the folders that hold such a network.
"""

from collections.abc import Mapping

import torch
from pydantic import ValidationError
from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from hkbench.errors import UsageError
from hkbench.models.architecture import Architecture
from hkbench.models.build import build, sketch
from hkbench.models.classifier import last_layer

__all__ = ["ARGUMENT", "NAME", "TimmClassifier", "hkbench_classifier"]

NAME = "hkbench_classifier"
"""What timm calls these networks, all of them."""
ARGUMENT = "hkbench_architecture"
"""The argument, among `model_args` of a config.json, that holds an `Architecture`."""
CHANNELS = 3
FEWEST_CLASSES = 2


class TimmClassifier(nn.Module):
    """A `Classifier` with timm's manners: it takes normalised pictures and has no auxiliary head.

    timm's own transforms normalise, with the mean and deviation of `pretrained_cfg`. Its tensors are called
    as in the `Classifier`.

    Args:
        hkbench_architecture: the fields of an `Architecture`.
        num_classes: the number of logits; 0 leaves out the last layer and gives features.
        in_chans: the channels of a picture, 3.
        drop_rate: the head's dropout in [0, 1); None leaves it the network's own.

    Raises:
        UsageError: no such structure, or pictures of other channels.
    """

    def __init__(
        self,
        *,
        hkbench_architecture: Mapping[str, object],
        num_classes: int,
        in_chans: int = CHANNELS,
        drop_rate: float | None = None,
    ) -> None:
        super().__init__()
        if in_chans != CHANNELS:
            raise UsageError(f"{NAME} takes pictures of {CHANNELS} channels, found in_chans {in_chans}.")
        architecture = _architecture(hkbench_architecture)
        classes = max(num_classes, FEWEST_CLASSES)
        network = build(architecture, classes=classes)
        assert isinstance(network.head, nn.Sequential)  # every builder's is, its last layer a child of it
        self.body = network.body
        self.head = network.head
        self.in_chans = in_chans
        self.num_classes = classes
        self._last = last_layer(network.head, classes)
        self.num_features = _channels(architecture)
        self.head_hidden_size = _width(self.get_classifier())
        self._is_convolution = isinstance(self.get_classifier(), nn.Conv2d)
        if drop_rate is not None:
            for module in self.head.modules():
                if isinstance(module, nn.Dropout):
                    module.p = drop_rate
        if num_classes != classes:
            self.reset_classifier(num_classes)

    @property
    def classifier_name(self) -> str:
        """The key of the layer that gives the logits, such as `head.2`."""
        return f"head.{self._last}"

    def get_classifier(self) -> nn.Module:
        """Return the layer that gives the logits: linear, a 1×1 convolution, or the identity without one."""
        return self.head.get_submodule(self._last)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the layer that gives the logits; 0 classes leave features, (batch, head_hidden_size).

        Raises:
            UsageError: a way to pool is asked for: the head has its own.
        """
        if global_pool is not None:
            raise UsageError(f"{NAME} pools in its own way, found global_pool '{global_pool}': leave it out.")
        device = next(self.parameters()).device
        new: nn.Module = nn.Identity()
        if num_classes > 0 and self._is_convolution:
            new = nn.Conv2d(self.head_hidden_size, num_classes, kernel_size=1)
        elif num_classes > 0:
            new = nn.Linear(self.head_hidden_size, num_classes)
        self.head.set_submodule(self._last, new.to(device))
        self.num_classes = num_classes

    def forward_features(self, pictures: Tensor) -> Tensor:
        """Return the feature map (batch, num_features, h, w) of normalised pictures (batch, 3, S, S)."""
        features: Tensor = self.body(pictures)
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (batch, num_classes) of a feature map; `pre_logits` leaves the last layer out."""
        for name, module in self.head.named_children():
            if not (pre_logits and name == self._last):
                features = module(features)
        return features

    def forward(self, pictures: Tensor) -> Tensor:
        """Return logits (batch, num_classes) of normalised pictures, float32 (batch, 3, S, S)."""
        return self.forward_head(self.forward_features(pictures))


def hkbench_classifier(pretrained: bool = False, **arguments: object) -> nn.Module:
    """Build a network of hkbench's for `timm.create_model`.

    Args:
        pretrained: fill it with the weights that lie beside the config.json.
        arguments: those of `TimmClassifier`, and timm's own such as `pretrained_cfg`.

    Raises:
        UsageError: no structure is given, or timm's feature levels are asked for.
    """
    if ARGUMENT not in arguments:
        raise UsageError(
            f"{NAME} is no single network, so it needs {ARGUMENT}: open a folder that 'hkbench export' has "
            "written, as local-dir:FOLDER."
        )
    if arguments.pop("features_only", False):
        raise UsageError(f"{NAME} has no features_only: take the feature map that forward_features gives.")
    network: nn.Module = build_model_with_cfg(TimmClassifier, NAME, pretrained, **arguments)
    return network


def _architecture(fields: Mapping[str, object]) -> Architecture:
    try:
        return Architecture.model_validate(fields)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise UsageError(f"{ARGUMENT} isn't a network of this hkbench: {where}: {problem['msg']}.") from error


def _width(layer: nn.Module) -> int:
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels
    assert isinstance(layer, nn.Linear)
    return layer.in_features


def _channels(architecture: Architecture) -> int:
    """Return the channels of the body's feature map, found without computing it."""
    size = architecture.image_size
    with torch.no_grad():
        features = sketch(architecture).features(torch.empty(2, CHANNELS, size, size, device="meta"))
    return int(features.shape[1])


register_model(hkbench_classifier)
