"""The one shape that every network has: pictures in [0, 1] → normalise → body → head → logits."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from timm.layers import SelectAdaptivePool2d
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a builder gives: a body, the head made for it and the normalisation that the body expects.

    `body` maps float32 (batch, 3, S, S) to a feature map (batch, channels, h, w); `head` maps that to
    logits (batch, classes). `stages` names the body's modules, all of them and in their order, in groups
    that may be frozen one after the other; a group mostly ends where the feature map gets smaller.
    """

    body: nn.Sequential
    head: nn.Module
    channels: int
    stages: tuple[tuple[str, ...], ...]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


class Normalise(nn.Module):
    """Subtract a mean and divide by a standard deviation, channel by channel, both kept as buffers."""

    mean: Tensor  # (1, 3, 1, 1)
    std: Tensor  # (1, 3, 1, 1)

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return `pictures` (batch, 3, S, S), normalised."""
        return (pictures - self.mean) / self.std


class Classifier(nn.Module):
    """A network that takes RGB pictures, float32 (batch, 3, S, S) in [0, 1], and gives logits.

    Normalisation is a layer of the network, so that it travels with every file made from it. The first
    `frozen_stages` of the body's stages take no gradient and stay in eval mode, so that their batch-norm
    statistics don't move either.
    """

    def __init__(self, name: str, classes: int, parts: Parts, *, frozen_stages: int = 0) -> None:
        super().__init__()
        self.name = name
        self.classes = classes
        self.stages = parts.stages
        self.frozen_stages = frozen_stages
        self.normalise = Normalise(parts.mean, parts.std)
        self.body = parts.body
        self.head = parts.head
        for module in self._modules_of(0, frozen_stages):
            module.requires_grad_(False)
        self.train()

    def _modules_of(self, start: int, stop: int) -> list[nn.Module]:
        names = (name for stage in self.stages[start:stop] for name in stage)
        return [self.body.get_submodule(name) for name in names]

    def features(self, pictures: Tensor) -> Tensor:
        """Return the body's feature map (batch, channels, h, w)."""
        features: Tensor = self.body(self.normalise(pictures))
        return features

    def forward(self, pictures: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        logits: Tensor = self.head(self.features(pictures))
        return logits

    def frozen_features(self, pictures: Tensor) -> Tensor:
        """Return what comes out of the frozen stages, (batch, channels, h, w)."""
        features: Tensor = self.normalise(pictures)
        for module in self._modules_of(0, self.frozen_stages):
            features = module(features)
        return features

    def logits_from(self, frozen_features: Tensor) -> Tensor:
        """Return logits (batch, classes) of what `frozen_features` gave."""
        features = frozen_features
        for module in self._modules_of(self.frozen_stages, len(self.stages)):
            features = module(features)
        logits: Tensor = self.head(features)
        return logits

    def frozen_state(self) -> dict[str, Tensor]:
        """Return all tensors that `frozen_features` depends on, by name."""
        frozen = [name for stage in self.stages[: self.frozen_stages] for name in stage]
        return {
            **{f"normalise.{name}": tensor for name, tensor in self.normalise.state_dict().items()},
            **{
                f"{module}.{name}": tensor
                for module in frozen
                for name, tensor in self.body.get_submodule(module).state_dict().items()
            },
        }

    def train(self, mode: bool = True) -> "Classifier":
        """Switch to training or evaluation; frozen stages stay in evaluation."""
        super().train(mode)
        for module in self._modules_of(0, self.frozen_stages):
            module.eval()
        return self


def named_children(whole: nn.Module, *names: str) -> nn.Sequential:
    """Return children of `whole` in a row under their own names, so that weights keep their keys."""
    return nn.Sequential(OrderedDict((name, whole.get_submodule(name)) for name in names))


def stages_of(body: nn.Sequential) -> tuple[tuple[str, ...], ...]:
    """Return the stages of a timm body: its stem, each of `blocks`, and what comes after these."""
    names = [name for name, _ in body.named_children()]
    at = names.index("blocks")
    blocks = [(f"blocks.{name}",) for name, _ in body.get_submodule("blocks").named_children()]
    return (tuple(names[:at]), *blocks, *([tuple(names[at + 1 :])] if names[at + 1 :] else []))


def global_pool() -> nn.Module:
    """Return global average pooling, (batch, channels, h, w) → (batch, channels).

    As a plain mean, since pooling and flattening apart become eight nodes of an exported file.
    """
    pool: nn.Module = SelectAdaptivePool2d(pool_type="fast", flatten=True)
    return pool


def pooled_head(channels: int, classes: int, *, dropout: float) -> nn.Sequential:
    """Return global average pooling, dropout and one linear layer."""
    return nn.Sequential(global_pool(), nn.Dropout(dropout), nn.Linear(channels, classes))


def transfer_head(channels: int, classes: int, *, hidden: int = 256, dropout: float = 0.2) -> nn.Sequential:
    """Return the new fully connected layers that are trained on top of a frozen body."""
    return nn.Sequential(
        global_pool(),
        nn.Dropout(dropout),
        nn.Linear(channels, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, classes),
    )


def parameter_count(network: nn.Module) -> int:
    """Return the number of parameters, frozen ones included, buffers not."""
    return sum(parameter.numel() for parameter in network.parameters())
