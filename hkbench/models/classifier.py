"""The one shape that every network has: pictures in [0, 1] → normalise → body → head → logits."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from timm.layers import SelectAdaptivePool2d
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Auxiliary:
    """A second head, for training alone: it reads the feature map that comes out of the first `after` stages.

    Its cross-entropy is added to the loss with `weight`. It needs pictures of at least
    `smallest_image_size` pixels.
    """

    head: nn.Module
    after: int
    weight: float
    smallest_image_size: int


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a builder gives: a body, the head made for it and the normalisation that the body expects.

    `body` maps float32 (batch, 3, S, S) to a feature map (batch, channels, h, w); `head` maps that to
    logits (batch, classes). `stages` names the body's modules, all of them and in their order, in groups
    that may be frozen one after the other; a group mostly ends where the feature map gets smaller.
    `in_order` says whether the body is no more than these modules in a row, so that what comes out of the
    first of them can be kept; the body of a foreign network is one whole, and only its groups can be frozen.
    """

    body: nn.Sequential
    head: nn.Module
    channels: int
    stages: tuple[tuple[str, ...], ...]
    in_order: bool = True
    auxiliary: "Auxiliary | None" = None
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
    `frozen_stages` of the body's stages are never trained: they take no gradient and stay in eval mode, so
    that their batch-norm statistics don't move either. The first `resting_stages`, at least as many, are so
    for now.
    """

    def __init__(self, name: str, classes: int, parts: Parts) -> None:
        super().__init__()
        self.name = name
        self.classes = classes
        self.stages = parts.stages
        self.frozen_stages = self.resting_stages = 0
        self.normalise = Normalise(parts.mean, parts.std)
        self.body = parts.body
        self.head = parts.head
        self._in_order = parts.in_order
        self.auxiliary = parts.auxiliary.head if parts.auxiliary else None
        self.auxiliary_weight = parts.auxiliary.weight if parts.auxiliary else 0.0
        self._auxiliary_after = parts.auxiliary.after if parts.auxiliary else 0
        self.train()

    def freeze(self, stages: int) -> "Classifier":
        """Never train the first `stages` of the body."""
        self.frozen_stages = stages
        return self.rest(stages)

    def rest(self, stages: int) -> "Classifier":
        """Leave the first `stages` of the body as they are until this is called again."""
        self.resting_stages = max(stages, self.frozen_stages)
        for module in self._modules_of(0, len(self.stages)):
            module.requires_grad_(True)
        for module in self._modules_of(0, self.resting_stages):
            module.requires_grad_(False)
        return self.train(self.training)

    @property
    def kept_stages(self) -> int:
        """How many stages' results can be kept: the frozen ones, where they can run by themselves."""
        whole = self.frozen_stages == len(self.stages)
        return self.frozen_stages if self._in_order or whole else 0

    def stage_of(self, parameter: str) -> int:
        """Return the number of the stage that holds a parameter; the heads come after the last."""
        inside = parameter.removeprefix("body.")
        for number, stage in enumerate(self.stages):
            if inside != parameter and any(inside.startswith(f"{name}.") for name in stage):
                return number
        return len(self.stages)

    def _modules_of(self, start: int, stop: int) -> list[nn.Module]:
        names = (name for stage in self.stages[start:stop] for name in stage)
        return [self.body.get_submodule(name) for name in names]

    def _through(self, features: Tensor, start: int, stop: int) -> Tensor:
        for module in self._modules_of(start, stop):
            features = module(features)
        return features

    def reset_classifier(self, classes: int) -> None:
        """Replace the last layer of each head by a new one for other classes; the rest stays as it is."""
        for head in (self.head, self.auxiliary):
            if head is not None:
                _replace_last_layer(head, self.classes, classes)
        self.classes = classes

    def features(self, pictures: Tensor) -> Tensor:
        """Return the body's feature map (batch, channels, h, w)."""
        features: Tensor = self.body(self.normalise(pictures))
        return features

    def forward(self, pictures: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        logits: Tensor = self.head(self.features(pictures))
        return logits

    def logits_and_auxiliary(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of both heads, each (batch, classes), of a network that has an auxiliary one."""
        assert self.auxiliary is not None
        middle = self._through(self.normalise(pictures), 0, self._auxiliary_after)
        last = self._through(middle, self._auxiliary_after, len(self.stages))
        return self.head(last), self.auxiliary(middle)

    def frozen_features(self, pictures: Tensor) -> Tensor:
        """Return what comes out of the kept stages, (batch, channels, h, w)."""
        if self.kept_stages == len(self.stages):
            return self.features(pictures)
        return self._through(self.normalise(pictures), 0, self.kept_stages)

    def logits_from(self, frozen_features: Tensor) -> Tensor:
        """Return logits (batch, classes) of what `frozen_features` gave."""
        if not self.kept_stages:
            frozen_features = self.body(frozen_features)
        elif self.kept_stages < len(self.stages):
            frozen_features = self._through(frozen_features, self.kept_stages, len(self.stages))
        logits: Tensor = self.head(frozen_features)
        return logits

    def frozen_state(self) -> dict[str, Tensor]:
        """Return all tensors that `frozen_features` depends on, by name."""
        frozen = [name for stage in self.stages[: self.kept_stages] for name in stage]
        return {
            **{f"normalise.{name}": tensor for name, tensor in self.normalise.state_dict().items()},
            **{
                f"{module}.{name}": tensor
                for module in frozen
                for name, tensor in self.body.get_submodule(module).state_dict().items()
            },
        }

    def train(self, mode: bool = True) -> "Classifier":
        """Switch to training or evaluation; stages that rest stay in evaluation."""
        super().train(mode)
        for module in self._modules_of(0, self.resting_stages):
            module.eval()
        return self


def last_layer(head: nn.Module, classes: int) -> str:
    """Return the name of the last layer of a head that gives `classes` channels: the logits."""
    found: str = next(
        name
        for name, module in reversed(list(head.named_modules()))
        if getattr(module, "out_features", getattr(module, "out_channels", None)) == classes
    )
    return found


def _replace_last_layer(head: nn.Module, before: int, classes: int) -> None:
    """Replace the last linear layer or 1×1 convolution that gives `before` logits."""
    name = last_layer(head, before)
    last = head.get_submodule(name)
    if isinstance(last, nn.Linear):
        new: nn.Module = nn.Linear(last.in_features, classes)
    else:
        assert isinstance(last, nn.Conv2d)
        new = nn.Conv2d(last.in_channels, classes, kernel_size=1)
    head.set_submodule(name, new.to(last.weight.device))


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


def transfer_head(channels: int, classes: int, *, layers: int, width: int, dropout: float) -> nn.Sequential:
    """Return a new head for transfer: `layers` fully connected layers of `width`, then one to the classes."""
    found: list[nn.Module] = [global_pool(), nn.Dropout(dropout)]
    for _ in range(layers):
        found += [nn.Linear(channels, width), nn.ReLU(), nn.Dropout(dropout)]
        channels = width
    return nn.Sequential(*found, nn.Linear(channels, classes))


def parameter_count(network: nn.Module) -> int:
    """Return the number of parameters, frozen ones included, buffers and an auxiliary head not."""
    named = network.named_parameters()
    return sum(parameter.numel() for name, parameter in named if not name.startswith("auxiliary."))
