"""Any classifier of timm (https://huggingface.co/docs/timm) by its name there."""

import functools
import sys
from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg, group_parameters
from torch import nn

from hkbench.errors import UsageError
from hkbench.models.classifier import Parts
from hkbench.models.entry import ModelEntry
from hkbench.models.foreign.body import level_parts, made, pooled_parts, stages_of_groups, translation
from hkbench.models.foreign.names import unknown_foreign
from hkbench.models.foreign.sizes import REFUSALS, refuse_below, smallest, takes
from hkbench.models.weights.files import timm_weights
from hkbench.models.weights.published import Tensors

PREFIX = "timm/"
GETTER = "model"
"""What timm's features-only wrapper calls the network inside it."""


@functools.lru_cache(maxsize=512)
def timm_entry(name: str, image_size: int) -> ModelEntry:
    """Return the entry of `timm/NAME` or `timm/NAME.TAG`, where the tag chooses among published weights.

    A network that is made for one picture size, such as a vision transformer, is built for `image_size`.

    Raises:
        UsageError: timm has no such classifier or tag, or the network takes no pictures of a usual size.
    """
    known = name.removeprefix(PREFIX)
    config = _config(known)
    architecture = known.partition(".")[0]
    usual = config.input_size[-1]
    fits = functools.partial(_fits, architecture, config.fixed_input_size)
    least = smallest(name, fits, image_size, usual)

    def builder(classes: int) -> Parts:
        if config.fixed_input_size:
            refuse_below(name, least, image_size)
        return _whole(architecture, config, image_size, classes)

    def cut_builder(stages: int, classes: int) -> Parts:
        if config.fixed_input_size:
            refuse_below(name, least, image_size)
        return _cut(architecture, config, image_size, stages, classes)

    return ModelEntry(
        name=name,
        builder=builder,
        cut_builder=cut_builder,
        family="timm",
        smallest_image_size=least,
        usual_image_size=usual,
        imagenet=timm_weights(known),
        translate=translation(_adapted, GETTER),
        note=f"timm's {known}",
        source=config.paper_ids or config.origin_url or "https://huggingface.co/docs/timm",
    )


def _config(name: str) -> PretrainedCfg:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise unknown_foreign("timm", name, timm.list_models())
    try:
        return timm.get_pretrained_cfg(name) or PretrainedCfg()
    except RuntimeError:  # a tag that isn't there
        tags = [other.partition(".")[2] for other in timm.list_models(f"{architecture}.*", pretrained=True)]
        raise UsageError(
            f"timm/{architecture} has no weights '{tag}', but: {', '.join(tags) or 'none'}."
        ) from None


def _create(architecture: str, fixed: bool, image_size: int, **wanted: object) -> nn.Module:
    sized = {**wanted, "img_size": image_size} if fixed else wanted

    def network() -> nn.Module:
        try:
            created: nn.Module = timm.create_model(architecture, pretrained=False, **sized)
        except TypeError:  # made for one size and can't be built for another
            created = timm.create_model(architecture, pretrained=False, **wanted)
        return created

    return made(network)


@functools.lru_cache(maxsize=64)
def _sketched(architecture: str, fixed: bool, image_size: int) -> nn.Module:
    with torch.device("meta"):
        return _create(architecture, fixed, image_size, num_classes=0)


@functools.lru_cache(maxsize=4096)
def _fits(architecture: str, fixed: bool, image_size: int) -> bool:
    try:
        network = _sketched(architecture, fixed, image_size if fixed else 0)
    except REFUSALS:
        return False
    return takes(network, image_size)


def _whole(architecture: str, config: PretrainedCfg, image_size: int, classes: int) -> Parts:
    network: Any = _create(architecture, config.fixed_input_size, image_size, num_classes=0)
    if hasattr(network, "drop_rate"):
        network.drop_rate = 0.0  # the head has its own dropout, and a frozen body must not have any
    channels = int(getattr(network, "head_hidden_size", network.num_features))
    return pooled_parts(network, channels, classes, _groups(network), tuple(config.mean), tuple(config.std))


def _cut(architecture: str, config: PretrainedCfg, image_size: int, stages: int, classes: int) -> Parts:
    """Build the network up to the last of its first `stages` feature levels, with a light head."""
    try:
        network: Any = _create(
            architecture,
            config.fixed_input_size,
            image_size,
            features_only=True,
            out_indices=(stages - 1,),
            feature_cls="getter",  # the one of timm's wrappers that leaves out what comes after the level
        )
    except (*REFUSALS, AttributeError, KeyError) as error:
        raise _uncut(architecture, stages, image_size) from error
    inner = network.get_submodule(GETTER)
    groups = stages_of_groups(inner, _groups(inner), f"network.{GETTER}")
    channels = network.feature_info.channels()[-1]
    return level_parts(network, groups, channels, classes, tuple(config.mean), tuple(config.std))


def _uncut(architecture: str, stages: int, image_size: int) -> UsageError:
    with torch.device("meta"):
        levels = len(getattr(_create(architecture, False, image_size), "feature_info", ()))
    if stages > levels > 0:
        return UsageError(f"timm/{architecture} has {levels} feature levels, so it can't be cut to {stages}.")
    return UsageError(f"timm/{architecture} can't be cut: timm can't take features out of it.")


def _groups(network: Any) -> Mapping[str, int]:
    """Return the group of each parameter: timm's own coarse ones, or else one for each outermost module."""
    try:
        groups = group_parameters(network, network.group_matcher(coarse=True), reverse=True)
    except (AttributeError, AssertionError, KeyError):  # none, no coarse ones, or none of what is left
        outermost = list(dict.fromkeys(name.partition(".")[0] for name, _ in network.named_parameters()))
        return {name: outermost.index(name.partition(".")[0]) for name, _ in network.named_parameters()}
    return dict(groups)


def _adapted(tensors: Tensors, network: nn.Module) -> Tensors:
    """Put tensors through the filter that timm has for the module of the network's class, if any."""
    # A network with a parametrisation is of a class made by torch, whose base is timm's.
    homes = (kind.__module__ for kind in type(network).__mro__)
    home = next(name for name in homes if name.startswith("timm."))
    adapt = getattr(sys.modules[home], "checkpoint_filter_fn", None)
    return adapt(dict(tensors), network) if adapt is not None else tensors
