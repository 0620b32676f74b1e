"""The list of models (`models.csv`) and the furniture catalogues that they come from."""

from __future__ import annotations

import csv
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .errors import Goods69Error

MODELS_CSV = Path(__file__).with_name("models.csv")
CATALOGUE_SUFFIX = ".sh3f"
PROPERTIES_FILE = "PluginFurnitureCatalog.properties"

HOW_TO_GET_MODELS = (
    "get them with `apt-get download sweethome3d-furniture` and "
    "`dpkg -x sweethome3d-furniture_*_all.deb FOLDER`, then pass `--models FOLDER`"
)

Rotation = tuple[tuple[float, ...], ...]
"""A 3 × 3 matrix, row by row."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One 3D model: where it lies, which class it shows, and whom to credit for it."""

    class_name: str
    catalogue: str
    model_path: str
    name: str
    creator: str
    license: str

    @property
    def group(self) -> str:
        """Stable id of the model, such as `Scopia/armchair1`."""
        return f"{self.catalogue}/{PurePosixPath(self.model_path).stem}"

    @property
    def slug(self) -> str:
        """The group as a file name."""
        return re.sub(r"[^A-Za-z0-9._-]", "_", self.group.replace("/", "-"))


def read_models(path: Path = MODELS_CSV) -> list[Model]:
    """The models of `path`, sorted by class and group.

    Raises Goods69Error when two models share a group, for then no split by group would be honest.
    """
    with path.open(encoding="utf-8", newline="") as file:
        models = [
            Model(
                class_name=row["class"],
                catalogue=row["catalogue"],
                model_path=row["model_path"],
                name=row["name"],
                creator=row["creator"],
                license=row["license"],
            )
            for row in csv.DictReader(file)
        ]
    groups = [model.group for model in models]
    twice = sorted({group for group in groups if groups.count(group) > 1})
    if twice:
        raise Goods69Error(f"{path.name} names these groups twice: {', '.join(twice)}")
    return sorted(models, key=lambda model: (model.class_name, model.group))


def models_by_class(models: list[Model]) -> dict[str, list[Model]]:
    """The models of each class; classes in alphabetical order."""
    table: dict[str, list[Model]] = {name: [] for name in sorted({m.class_name for m in models})}
    for model in models:
        table[model.class_name].append(model)
    return table


def find_archives(folder: Path, catalogues: set[str]) -> dict[str, Path]:
    """The archive of each catalogue, anywhere under `folder`.

    Raises Goods69Error, with the way to get the models, when the folder or an archive is missing.
    """
    if not folder.is_dir():
        raise Goods69Error(f"no folder {folder} with the 3D models: {HOW_TO_GET_MODELS}")
    found = {path.stem: path for path in sorted(folder.rglob("*" + CATALOGUE_SUFFIX))}
    missing = sorted(catalogues - found.keys())
    if missing:
        names = ", ".join(name + CATALOGUE_SUFFIX for name in missing)
        raise Goods69Error(f"{folder} holds no {names}: {HOW_TO_GET_MODELS}")
    return {name: found[name] for name in sorted(catalogues)}


def unpack(archives: dict[str, Path], target: Path) -> None:
    """Unpack every catalogue once, each into a folder of its name under `target`."""
    for name, archive in archives.items():
        done = target / f"{name}.unpacked"
        if done.exists():
            continue
        with zipfile.ZipFile(archive) as bundle:
            bundle.extractall(target / name)
        done.touch()


def parse_rotations(properties: str) -> dict[str, Rotation]:
    """Rotation of each model path that a catalogue's properties turn upright.

    Source: the `model#N` and `modelRotation#N` keys of Sweet Home 3D's furniture catalogues; the
    nine numbers are a matrix by rows that multiplies column vectors.
    """
    entries = dict(re.findall(r"^\s*([A-Za-z]+#\d+)\s*=\s*(.*?)\s*$", properties, re.MULTILINE))
    rotations: dict[str, Rotation] = {}
    for key, value in entries.items():
        if not key.startswith("modelRotation#"):
            continue
        path = entries.get("model#" + key.partition("#")[2])
        numbers = [float(word) for word in value.split()]
        if path is None or len(numbers) != 9:
            continue
        rotations[path.lstrip("/")] = tuple(tuple(numbers[i : i + 3]) for i in (0, 3, 6))
    return rotations


def read_rotations(target: Path, catalogues: set[str]) -> dict[tuple[str, str], Rotation]:
    """Rotation by (catalogue, model path), from the unpacked catalogues under `target`."""
    return {
        (name, path): rotation
        for name in sorted(catalogues)
        # Java's properties files are Latin-1 by definition.
        for path, rotation in parse_rotations(
            (target / name / PROPERTIES_FILE).read_text(encoding="latin-1")
        ).items()
    }
