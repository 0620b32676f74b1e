"""A foreign network without its classifier, as a body: pooled features as a map of one pixel, and its stages.

A body's stages name modules, but some networks, transformers above all, hold parameters beside their
modules. Such a parameter is moved into a module of its own, by a parametrisation that changes nothing.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from hkbench.models.classifier import Parts, pooled_head
from hkbench.models.cut import light_head
from hkbench.models.weights.published import Tensors, Translate

NETWORK = "network"
MAP = "map"
DROPOUT = 0.2
Triple = tuple[float, float, float]


def made(builder: Callable[[], nn.Module]) -> nn.Module:
    """Return what `builder` makes, on the default device, even if that has no memory.

    Some networks read numbers from tensors while they are made, which the device "meta" refuses.
    """
    try:
        return builder()
    except NotImplementedError:
        device = torch.get_default_device()
        if device.type != "meta":
            raise
        with torch.device("cpu"):
            return builder().to(device)


def pooled_parts(
    network: nn.Module, channels: int, classes: int, groups: Mapping[str, int], mean: Triple, std: Triple
) -> Parts:
    """Return parts of a network that gives pooled features (batch, channels).

    Args:
        network: takes float32 (batch, 3, S, S), normalised.
        channels: how many features it gives.
        classes: the number of logits.
        groups: parameter's name → number of its group, for freezing.
        mean: what its pictures are normalised with.
        std: the same.
    """
    stages = stages_of_groups(network, groups)
    body = nn.Sequential(OrderedDict([(NETWORK, network), (MAP, nn.Unflatten(1, (channels, 1, 1)))]))
    return Parts(
        body=body,
        head=pooled_head(channels, classes, dropout=DROPOUT),
        channels=channels,
        stages=(*stages[:-1], (*stages[-1], MAP)),
        in_order=False,
        mean=mean,
        std=std,
    )


def level_parts(
    network: nn.Module,
    stages: tuple[tuple[str, ...], ...],
    channels: int,
    classes: int,
    mean: Triple,
    std: Triple,
) -> Parts:
    """Return parts of a network that gives a list of one feature map (batch, channels, h, w)."""
    body = nn.Sequential(OrderedDict([(NETWORK, network), (MAP, OnlyOne())]))
    return Parts(
        body=body,
        head=light_head(channels, classes),
        channels=channels,
        stages=(*stages[:-1], (*stages[-1], MAP)),
        in_order=False,
        mean=mean,
        std=std,
    )


class OnlyOne(nn.Module):
    """Takes the only feature map out of its list."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return the map (batch, channels, h, w)."""
        (only,) = maps
        return only


def stages_of_groups(
    network: nn.Module, groups: Mapping[str, int], prefix: str = NETWORK
) -> tuple[tuple[str, ...], ...]:
    """Return the modules of a network in stages, one for each group of parameters, in the groups' order.

    Each stage names the outermost modules all of whose parameters are of its group, so that every parameter
    is in just one; parameters that no such module holds are moved into one. A module without parameters goes
    with the one before it.

    Args:
        network: is changed where it holds parameters of different groups side by side.
        groups: parameter's name → number of its group.
        prefix: what the names shall start with.
    """
    numbers = {id(parameter): groups[name] for name, parameter in network.named_parameters()}
    stages: dict[int, list[str]] = {number: [] for number in sorted(set(numbers.values()))}
    latest = min(stages)
    for name, number in _outermost(network, prefix, numbers):
        latest = latest if number is None else number
        stages[latest].append(name)
    return tuple(tuple(names) for names in stages.values())


def _outermost(module: nn.Module, name: str, numbers: Mapping[int, int]) -> Iterator[tuple[str, int | None]]:
    """Yield the outermost modules inside `module` that are of one group, with its number, or of none."""
    for own in [own for own, parameter in module.named_parameters(recurse=False)]:
        number = numbers[id(getattr(module, own))]
        parametrize.register_parametrization(module, own, nn.Identity(), unsafe=True)
        yield f"{name}.parametrizations.{own}", number
    for child_name, child in module.named_children():
        if child_name == "parametrizations":
            continue
        inside = {numbers[id(parameter)] for parameter in child.parameters()}
        if len(inside) > 1:
            yield from _outermost(child, f"{name}.{child_name}", numbers)
        else:
            yield f"{name}.{child_name}", next(iter(inside), None)


def own_key(key: str) -> str:
    """Return the name that a tensor has in its library, by its key in a body."""
    inside = key.removeprefix(f"{NETWORK}.")
    return re.sub(r"(^|\.)parametrizations\.(\w+)\.original$", r"\1\2", inside)


def translation(adapt: Callable[[Tensors, nn.Module], Tensors], getter: str = "") -> Translate:
    """Return a translation from a library's keys to those of a body made here.

    Args:
        adapt: fits the library's tensors to its network, such as position embeddings for another size.
        getter: the name of the module, if any, that the library wraps its network in for a cut.
    """

    def translate(tensors: Tensors, body: nn.Module) -> Tensors:
        network = body.get_submodule(NETWORK)
        wrapped = bool(getter) and hasattr(network, getter)
        inner = network.get_submodule(getter) if wrapped else network
        theirs = adapt(tensors, inner)
        ours = (
            (key, own_key(key).removeprefix(f"{getter}." if wrapped else "")) for key in body.state_dict()
        )
        return {key: theirs[name] for key, name in ours if name in theirs}

    return translate
