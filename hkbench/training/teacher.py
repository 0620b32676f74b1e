"""Teachers as they are kept, shipped or in the cache: found again for just their recipe, data and split."""

import logging
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file

from hkbench.config import cache_dir
from hkbench.errors import UsageError
from hkbench.models.architecture import Architecture
from hkbench.models.build import build
from hkbench.models.classifier import Classifier
from hkbench.models.registry import entry_of
from hkbench.store.cache import key_of, touch
from hkbench.store.digest import sha256_of
from hkbench.store.records import EpochRecord, Metrics
from hkbench.training.optimizers import OptimizerConfig

log = logging.getLogger(__name__)


class TeacherRecipe(BaseModel):
    """How a teacher is made; part of the key under which it is kept.

    `patience` is the number of epochs without a better validation accuracy after which training ends;
    the best epoch's weights are kept. `weights` is what the network starts from, by default ImageNet's where
    they are at hand.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "efficientnet_lite0"
    image_size: int = Field(default=96, ge=16, le=512)
    max_epochs: int = Field(default=20, ge=1)
    patience: int = Field(default=5, ge=1)
    batch_size: int = Field(default=64, ge=2)
    optimizer: str = "sgd"
    learning_rate: float = Field(default=0.05, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    seed: int = 0
    weights: str | None = None

    @property
    def optimizer_config(self) -> OptimizerConfig:
        """The optimiser with its rates."""
        return OptimizerConfig(
            name=self.optimizer, learning_rate=self.learning_rate, weight_decay=self.weight_decay
        )


class TeacherRecord(BaseModel):
    """`teacher.json`, beside the weights: what was trained, on what, and how well it does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    recipe: TeacherRecipe
    weights: str
    architecture: Architecture | None = None
    data: str
    fingerprint: str
    split_hash: str
    classes: list[str]
    validation: Metrics
    best_epoch: int
    epochs: list[EpochRecord]
    seconds: float
    sha256: str
    created: str

    @property
    def structure(self) -> Architecture:
        """The network's structure: the recipe's model as it was published, unless another is on record."""
        return self.architecture or Architecture(model=self.recipe.model, image_size=self.recipe.image_size)


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A trained teacher: its weights' file and its record."""

    weights: Path
    record: TeacherRecord
    shipped: bool

    def network(self) -> Classifier:
        """Build the network with the trained weights, in eval mode, float32.

        Raises:
            UsageError: the file isn't the one that the record names any more.
        """
        check_weights(self.weights, self.record)
        return network_with(self.weights, self.record.structure, len(self.record.classes))


def network_with(weights: Path, architecture: Architecture, classes: int) -> Classifier:
    """Build a network with the weights of a safetensors file, in eval mode, float32."""
    network = build(architecture, classes=classes)
    state = {name: _as_float32(tensor) for name, tensor in load_file(weights).items()}
    network.load_state_dict(state)
    return network.eval()


def _as_float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def teacher_key(recipe: TeacherRecipe, fingerprint: str, split_hash: str) -> str:
    """Return the name under which a teacher is kept: the hash of its recipe, data and split.

    A recipe that leaves the weights open has another key where there are none to start from, so that such a
    teacher isn't found any more once they are there.
    """
    weights = starting_weights(recipe)
    told = recipe.model_copy(update={"weights": None if weights == "imagenet" else weights})
    return key_of(told.model_dump(exclude_none=True), fingerprint, split_hash)


def starting_weights(recipe: TeacherRecipe) -> str:
    """Return what a teacher starts from: what its recipe names, else ImageNet's where they are at hand."""
    if recipe.weights is not None:
        return recipe.weights
    return "imagenet" if entry_of(recipe.model, recipe.image_size).has_imagenet_weights else "none"


def find_teacher(recipe: TeacherRecipe, fingerprint: str, split_hash: str) -> Teacher | None:
    """Return the shipped or cached teacher for just this recipe, data and split; None if there is none."""
    key = teacher_key(recipe, fingerprint, split_hash)
    for folder, is_shipped in ((shipped_folder() / key, True), (cache_dir() / "teachers" / key, False)):
        if (folder / "teacher.json").is_file():
            try:
                found = load_teacher(folder, shipped=is_shipped)
            except UsageError as error:
                log.warning("%s It is trained again.", error)
                shutil.rmtree(folder)
                return None
            if not is_shipped:
                touch(folder)
            return found
    return None


def shipped_folder() -> Path:
    """Return where the package keeps its teachers, a folder for each, named by its key."""
    return Path(str(resources.files("hkbench.training"))) / "shipped"


def load_teacher(folder: Path, *, shipped: bool = False) -> Teacher:
    """Read a teacher from the folder that `train_teacher` wrote.

    Raises:
        UsageError: a file is missing or isn't the one that the record names.
    """
    weights = folder / "model.safetensors"
    try:
        record = TeacherRecord.model_validate_json((folder / "teacher.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{folder} holds no teacher that can be read: {reason}.") from error
    check_weights(weights, record)
    return Teacher(weights=weights, record=record, shipped=shipped)


def check_weights(weights: Path, record: TeacherRecord) -> None:
    """Refuse weights that aren't those of the record.

    Raises:
        UsageError: says so.
    """
    try:
        found = sha256_of(weights)
    except OSError as error:
        raise UsageError(f"{weights} can't be read: {error.strerror}.") from error
    if found != record.sha256:
        raise UsageError(f"{weights} is not the file that teacher.json describes.")
