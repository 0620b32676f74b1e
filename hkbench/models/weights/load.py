"""Weights by what the user names, put into a network."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented there
from torch import Tensor, nn

from hkbench.errors import UsageError, unknown
from hkbench.models.activations import activation_weights
from hkbench.models.classifier import Classifier
from hkbench.models.weights.origin import HubFile
from hkbench.models.weights.published import PublishedWeights, Tensors, read

if TYPE_CHECKING:
    from hkbench.models.entry import ModelEntry

HUB = "hf-hub:"
SUFFIXES = (".safetensors", ".pth", ".pt")
KINDS = ("none", "imagenet", f"{HUB}OWNER/REPOSITORY", *(f"FILE{suffix}" for suffix in SUFFIXES))
PARTS = ("normalise", "body", "head", "auxiliary")
"""What the keys of a file of a whole network of hkbench's start with."""
NAMED_TENSORS = 3


def load_weights(network: Classifier, entry: "ModelEntry", weights: str) -> None:
    """Fill every parameter and buffer of a network's body.

    Args:
        network: what `entry` builds, whole or cut.
        entry: the network's line of the registry.
        weights: "imagenet"; the path of a .safetensors, .pth or .pt file, or "hf-hub:owner/repository" for
            the model.safetensors of a repository. Such a file has the keys of the library that the network
            comes from, or those of a whole network of hkbench's; then its heads are taken over too if all
            of their shapes fit. Where it has no weights for activations that learn some, such as PReLU,
            these begin as new.

    Raises:
        UsageError: there are no such weights, they aren't here and can't be brought, or they don't fill the
            body.
    """
    path = _path(entry, weights)
    tensors = read(path)
    if all(key.partition(".")[0] in PARTS for key in tensors):
        _fill(network.body, _below("body", tensors), path)
        _fill_if_it_fits(network.normalise, _below("normalise", tensors))
        _fill_if_it_fits(network.head, _below("head", tensors))
        if network.auxiliary is not None:
            _fill_if_it_fits(network.auxiliary, _below("auxiliary", tensors))
    else:
        _fill(network.body, entry.translate(tensors, network.body), path)


def _path(entry: "ModelEntry", weights: str) -> Path:
    if weights == "imagenet":
        if entry.imagenet is None:
            raise UsageError(
                f"No ImageNet weights were ever published for '{entry.name}': build it with weights 'none', "
                f"or take a network that has some, such as efficientnet_lite0."
            )
        return entry.imagenet.fetch()
    if weights.startswith(HUB):
        return _of_hub(weights).fetch()
    path = Path(weights).expanduser()
    if path.suffix not in SUFFIXES:
        raise unknown("weights", weights, KINDS)
    if not path.is_file():
        raise UsageError(f"There is no file of weights at {path}.")
    return path


def _of_hub(weights: str) -> PublishedWeights:
    repository = weights.removeprefix(HUB)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII) is None:
        raise UsageError(f"Weights of the hub are named {HUB}OWNER/REPOSITORY, found '{weights}'.")
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(
            f"The hub has no repository '{repository}', for such a name can't be: {reason}."
        ) from error
    return PublishedWeights(
        file=f"{repository.replace('/', '--')}.safetensors",
        origin=HubFile(repository=repository),
        licence="see the repository",
    )


def _below(part: str, tensors: Tensors) -> dict[str, Tensor]:
    return {
        key.removeprefix(f"{part}."): tensor for key, tensor in tensors.items() if key.startswith(f"{part}.")
    }


def _fill_if_it_fits(module: nn.Module, tensors: Tensors) -> None:
    shapes = {key: tensor.shape for key, tensor in module.state_dict().items()}
    if shapes == {key: tensor.shape for key, tensor in tensors.items()}:
        module.load_state_dict(dict(tensors))


def _fill(body: nn.Module, tensors: Tensors, path: Path) -> None:
    wanted = body.state_dict()
    given = {key: tensors[key] for key in wanted if key in tensors}
    for key in wanted.keys() - given.keys():
        if key.endswith(".num_batches_tracked"):  # files from before torch 0.4.1 have none
            given[key] = torch.zeros((), dtype=torch.long)
    learned = activation_weights(body)
    if not learned & given.keys():  # learned with another activation
        given |= {key: wanted[key] for key in learned}
    wrong = [
        f"{key} ({_shape(given[key]) if key in given else 'missing'} for {_shape(tensor)})"
        for key, tensor in wanted.items()
        if key not in given or given[key].shape != tensor.shape
    ]
    if wrong:
        more = f" and {len(wrong) - NAMED_TENSORS} more" if len(wrong) > NAMED_TENSORS else ""
        raise UsageError(
            f"{path} doesn't hold the weights of this network: {', '.join(wrong[:NAMED_TENSORS])}{more}, "
            f"out of {len(wanted)} tensors."
        )
    body.load_state_dict(given)


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"
