"""What both sides of a comparison start from: the same pictures as files, the same trained teacher."""

import hashlib
from collections import Counter
from pathlib import Path

import torch

from hkbench.config import cache_dir
from hkbench.data.source import Source
from hkbench.data.splits import Split, make_split
from hkbench.models.build import build
from hkbench.models.classifier import Classifier
from hkbench.store.environment import now
from hkbench.training.teacher import Teacher, TeacherRecipe, TeacherRecord, load_teacher, teacher_key
from hkbench.training.teaching import save_half

PARTS = ("train", "validation")
TEACHER_SEED = 0


def split_of(source: Source) -> Split:
    """Return the random split that hkbench gives these pictures, without decoding them."""
    return make_split(source.labels, source.groups, source.ids, classes=source.classes)


def write_parts(source: Source, split: Split, folder: Path) -> None:
    """Write the encoded pictures of the train and the validation part as `folder/PART/CLASS/NUMBER.EXT`."""
    for part in PARTS:
        _write(source, getattr(split, part).tolist(), folder / part)


def write_some(source: Source, folder: Path, *, per_class: int) -> None:
    """Write the first `per_class` pictures of each class as a folder that hkbench can open."""
    taken: Counter[int] = Counter()
    kept = []
    for index, label in enumerate(source.labels.tolist()):
        taken[label] += 1
        if taken[label] <= per_class:
            kept.append(index)
    _write(source, kept, folder)


def _write(source: Source, indices: list[int], folder: Path) -> None:
    for name in source.classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in indices:
        path = folder / source.classes[source.labels[index]] / f"{index:06d}{Path(source.ids[index]).suffix}"
        path.write_bytes(source.read(index))


def keep_teacher(recipe: TeacherRecipe, source: Source, split: Split) -> Teacher:
    """Put an untrained teacher where hkbench looks for a trained one, in its cache.

    Its training would be the same on both sides, and no step's time depends on the weights' values.
    """
    network = build(recipe.model, classes=len(source.classes), seed=TEACHER_SEED).eval()
    folder = cache_dir() / "teachers" / teacher_key(recipe, source.fingerprint, split.hash)
    weights = folder / "model.safetensors"
    save_half(network.state_dict(), weights)
    record = TeacherRecord(
        recipe=recipe,
        weights="none",
        data=source.name,
        fingerprint=source.fingerprint,
        split_hash=split.hash,
        classes=list(source.classes),
        validation={"accuracy": 1 / len(source.classes)},
        best_epoch=1,
        epochs=[],
        seconds=0.0,
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        created=now(),
    )
    (folder / "teacher.json").write_text(record.model_dump_json())
    return load_teacher(folder)


def write_densenet(network: Classifier, path: Path) -> None:
    """Write hkbench's DenseNet-121 as a state dict of torchvision's, for the peer to load."""
    linear = f"{len(network.head) - 1}."  # type: ignore[arg-type]
    body = {f"features.{name}": tensor for name, tensor in network.body.state_dict().items()}
    head = {
        f"classifier.{name.removeprefix(linear)}": tensor
        for name, tensor in network.head.state_dict().items()
    }
    torch.save({name: tensor.contiguous() for name, tensor in {**body, **head}.items()}, path)


def steps_of(split: Split, batch_size: int) -> int:
    """Return the steps of an epoch; a last batch with fewer pictures is left out."""
    return len(split.train) // batch_size
