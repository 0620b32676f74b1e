"""A network as a folder that timm opens: `timm.create_model("local-dir:FOLDER", pretrained=True)`.

A network that timm has itself is written under timm's own name and needs no more than timm. Every other goes
by the name that `hkbench.models.in_timm` registers, which has to be imported first; config.json says so.
"""

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor, nn

from hkbench.errors import HkbenchError, UsageError
from hkbench.models.architecture import Architecture
from hkbench.models.classifier import Classifier
from hkbench.models.foreign.body import made, own_key
from hkbench.models.foreign.sizes import REFUSALS
from hkbench.models.foreign.timm_models import PREFIX
from hkbench.models.in_timm import ARGUMENT, NAME, TimmClassifier
from hkbench.store.atomic import replacing, write_text
from hkbench.store.records import ModelRecord

Network = TypeVar("Network", bound=nn.Module)

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
REQUIRES = "import hkbench.models.in_timm"
BEFORE = ("", "tf_")
"""What timm's name of a network may have before ours: it keeps TensorFlow's variants apart."""
INSIDE = ("", "features.")
"""Below which module timm may keep what our bodies have at their top."""
PICTURES = 2
TOLERANCE = 1e-3
"""The greatest difference of a logit that counts as rounding, as a share of the greatest logit."""


@dataclass(frozen=True, kw_only=True)
class TimmForm:
    """A network in timm's terms: `name` and `arguments` build it there, `tensors` have the keys it has there.

    `classifier` and `first_conv` name layers that timm replaces for other classes or channels.
    """

    name: str
    arguments: Mapping[str, object]
    tensors: Mapping[str, Tensor]
    features: int
    classifier: str
    first_conv: str | tuple[str, ...] | None
    fixed_input_size: bool = False


def write_timm_folder(
    folder: Path, network: Classifier, record: ModelRecord, labels: Sequence[str]
) -> list[str]:
    """Write config.json and model.safetensors in timm's layout, and return their names.

    timm's model takes normalised pictures and gives the logits that `network` gives of the same pictures in
    [0, 1]; that is tried before anything is written. An auxiliary head is left out.

    Args:
        folder: is made where it isn't there; files of these names in it are replaced.
        network: on any device, in any mode; isn't changed.
        record: tells the network's structure, its picture size and its licences.
        labels: the class of each logit.

    Raises:
        UsageError: the record doesn't tell the structure, or another one than the network has; there is not a
            label for each logit; or the disk is full.
        HkbenchError: timm's model gives other logits.
    """
    architecture = _architecture(record)
    if len(labels) != network.classes:
        raise UsageError(
            f"{record.id} gives {network.classes} logits, found {len(labels)} labels: name one for each."
        )
    still = copy.deepcopy(network).cpu().eval()
    for form in _forms(still, architecture):
        config = _config(form, still, architecture, record, labels)
        if _gives_the_same(form, config, still, architecture.image_size):
            break
    else:
        raise HkbenchError(
            f"{record.id} ({architecture.label}) can't be written for timm: built again there, it gives "
            "other logits than here. Please report it with the versions of torch and timm."
        )
    with replacing(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save(dict(form.tensors), metadata={"format": "pt"}))
    write_text(folder / CONFIG, json.dumps(config, ensure_ascii=False, indent=2) + "\n")
    return [CONFIG, WEIGHTS]


def _architecture(record: ModelRecord) -> Architecture:
    if not record.architecture:
        raise UsageError(
            f"The record of {record.id} doesn't tell the structure of {record.model}, as those of the first "
            "versions didn't: export it again from its run."
        )
    try:
        return Architecture.model_validate(record.architecture).resolved()
    except ValidationError as error:
        raise UsageError(
            f"The record of {record.id} tells of a network that this hkbench can't build: {error}"
        ) from error


def _forms(network: Classifier, architecture: Architecture) -> Iterator[TimmForm]:
    """Yield the forms that may do, timm's own first."""
    changed = (architecture.cut, architecture.activation, architecture.head_layers)
    if all(change is None for change in changed):
        bare = architecture.model.removeprefix(PREFIX).partition(".")[0]
        for name in (f"{before}{bare}" for before in BEFORE):
            form = _own(name, network, architecture) if timm.is_model(name) else None
            if form is not None:
                yield form
    yield _ours(network, architecture)


def _own(name: str, network: Classifier, architecture: Architecture) -> TimmForm | None:
    """Return the network as timm's `name`; None where that has other tensors, or can't be of this size."""
    published = timm.get_pretrained_cfg(name)
    fixed = bool(published and published.fixed_input_size)
    arguments: dict[str, object] = {"img_size": architecture.image_size} if fixed else {}
    try:
        theirs = _on_meta(lambda: timm.create_model(name, num_classes=network.classes, **arguments))
    except REFUSALS:
        return None
    classifier = theirs.pretrained_cfg.get("classifier")
    if not isinstance(classifier, str):  # several, of a distilled transformer, or none
        return None
    tensors = _translated(network, theirs, classifier)
    if tensors is None:
        return None
    return TimmForm(
        name=name,
        arguments=arguments,
        tensors=tensors,
        features=theirs.num_features,
        classifier=classifier,
        first_conv=theirs.pretrained_cfg.get("first_conv"),
        fixed_input_size=fixed,
    )


def _translated(network: Classifier, theirs: nn.Module, classifier: str) -> dict[str, Tensor] | None:
    """Return all of the network's tensors under timm's keys; None where keys or shapes aren't the same."""
    wanted = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    body = {own_key(name): tensor for name, tensor in _tensors(network.body).items()}
    head = {name.rpartition(".")[2]: tensor for name, tensor in _tensors(network.head).items()}
    for inside in INSIDE:
        found = {f"{inside}{name}": tensor for name, tensor in body.items()}
        found |= {f"{classifier}.{name}": tensor for name, tensor in head.items()}
        if {name: tensor.shape for name, tensor in found.items()} == wanted:
            return found
    return None


def _ours(network: Classifier, architecture: Architecture) -> TimmForm:
    """Return the network under the name that hkbench registers."""
    fields = architecture.model_dump(exclude_none=True)
    theirs = _on_meta(lambda: TimmClassifier(hkbench_architecture=fields, num_classes=network.classes))
    body = {f"body.{name}": tensor for name, tensor in _tensors(network.body).items()}
    tensors = body | {f"head.{name}": tensor for name, tensor in _tensors(network.head).items()}
    wanted = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != wanted:
        different = sorted(name for name in found | wanted if found.get(name) != wanted.get(name))
        raise UsageError(
            f"The record tells of {architecture.label} with {network.classes} classes, but the network's "
            f"tensors are others: {', '.join(different[:3])} and so on, {len(different)} in all. Give the "
            "record of this very network."
        )
    first = next((name for name, module in theirs.named_modules() if isinstance(module, nn.Conv2d)), None)
    return TimmForm(
        name=NAME,
        arguments={ARGUMENT: fields},
        tensors=tensors,
        features=theirs.num_features,
        classifier=theirs.classifier_name,
        first_conv=first,
    )


def _on_meta(create: Callable[[], Network]) -> Network:
    """Return what `create` makes, without memory for its weights."""
    with torch.device("meta"):
        return cast("Network", made(create))


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's tensors, none of which shares memory with another."""
    found = module.state_dict().items()
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in found}


def _config(
    form: TimmForm,
    network: Classifier,
    architecture: Architecture,
    record: ModelRecord,
    labels: Sequence[str],
) -> dict[str, object]:
    """Return what config.json holds; see timm's `save_config_for_hf` for the keys."""
    size = architecture.image_size
    licences = ", ".join(sorted(set(record.licences.values())))
    return {
        "architecture": form.name,
        **({"requires": REQUIRES} if form.name == NAME else {}),
        "num_classes": network.classes,
        "num_features": form.features,
        "label_names": list(labels),
        **({"model_args": dict(form.arguments)} if form.arguments else {}),
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "fixed_input_size": form.fixed_input_size,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": _written(network.normalise.mean),
            "std": _written(network.normalise.std),
            "num_classes": network.classes,
            "pool_size": None,
            "first_conv": form.first_conv,
            "classifier": form.classifier,
            "license": licences or None,
            "description": f"{architecture.label}, trained by hkbench",
        },
    }


def _written(channels: Tensor) -> list[float]:
    """Return numbers of a buffer with the fewest digits that make the same float32: 0.485, not 0.48500001."""
    return [float(str(number)) for number in channels.flatten().numpy()]


def _gives_the_same(
    form: TimmForm, config: Mapping[str, object], network: Classifier, image_size: int
) -> bool:
    """Whether timm, which loads the tensors as it would from the folder, gives the network's logits."""
    settings = config["pretrained_cfg"]
    assert isinstance(settings, dict)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(PICTURES, 3, image_size, image_size, generator=generator)
    mean, std = (torch.tensor(settings[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    try:
        with torch.random.fork_rng(devices=[]):  # first weights are drawn, though none of them stays
            loaded = timm.create_model(
                form.name,
                pretrained=True,
                pretrained_cfg={**settings, "state_dict": dict(form.tensors)},
                **form.arguments,
            )
        with torch.inference_mode():
            expected = network(pictures)
            found = loaded.eval()((pictures - mean) / std)
    except REFUSALS:
        return False
    if found.shape != expected.shape:
        return False
    return bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())  # not so if one is NaN
