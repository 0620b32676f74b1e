"""What all trials of a search read, as paths: made by the driver, mapped by every worker."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hkbench.config import cache_dir
from hkbench.data.augment import ViewTable
from hkbench.data.splits import Split
from hkbench.data.store import PictureStore, open_store
from hkbench.models.classifier import Classifier
from hkbench.store.atomic import replacing
from hkbench.store.cache import touch
from hkbench.training.ahead import open_ahead
from hkbench.training.features import frozen_features
from hkbench.training.feed import TrainingData


@dataclass(frozen=True, kw_only=True)
class SharedViews:
    """Where a `ViewTable` lies."""

    parameters: Path
    partners: Path | None
    key: str

    def open(self) -> ViewTable:
        """Map the views."""
        return ViewTable(
            parameters=np.load(self.parameters, mmap_mode="r"),
            partners=np.load(self.partners, mmap_mode="r") if self.partners is not None else None,
            key=self.key,
        )


@dataclass(frozen=True, kw_only=True)
class SharedData:
    """Where a worker finds what it trains on; small, and the same for every trial."""

    stores: dict[int, Path]
    split: Path
    views: SharedViews
    rendered: dict[int, Path]
    teachers: list[Path]
    teacher_logits: Path | None
    classes: tuple[str, ...]

    def touch(self) -> None:
        """Note that all of it is in use, so that cleaning the cache spares it."""
        paths = [*self.stores.values(), *self.rendered.values(), self.split, self.views.parameters]
        paths += self.teachers
        for path in (*paths, *(each for each in (self.teacher_logits, self.views.partners) if each)):
            touch(path)

    def open(self, image_size: int) -> "OpenData":
        """Map everything that a trial of this picture size needs, without reading the pictures."""
        store, split, table = open_store(self.stores[image_size]), _open_split(self.split), self.views.open()
        views = table.parameters.shape[0]
        rendered = self.rendered.get(image_size)
        data = TrainingData(
            pictures=store.pictures,
            labels=store.labels,
            train=split.train,
            validation=split.validation,
            views=table.parameters,
            partners=table.partners,
            teacher_logits=open_ahead(self.teacher_logits, views) if self.teacher_logits else None,
            inputs=open_ahead(rendered, views) if rendered is not None else None,
        )
        return OpenData(store=store, split=split, table=table, data=data)


@dataclass(frozen=True, kw_only=True)
class OpenData:
    """The mapped data of one picture size."""

    store: PictureStore
    split: Split
    table: ViewTable
    data: TrainingData

    def for_network(self, network: Classifier, device: torch.device, threads: int) -> TrainingData:
        """Return what to train `network` on: where stages are frozen, what they make of the pictures.

        The first trial with a frozen body computes its features, others wait for it and map them.
        """
        if not network.kept_stages:
            return self.data
        workers = threads if device.type == "cpu" else 1
        features = frozen_features(
            network, self.store, self.split, self.table, device=device, workers=workers
        )
        if features is None:
            return self.data
        return replace(self.data, inputs=features.train, validation_inputs=features.validation)


def keep_split(split: Split) -> Path:
    """Write a split to the cache."""
    path = cache_dir() / "splits" / f"{split.hash}.npz"
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            scheme=split.scheme,
            seed=split.seed,
            train=split.train,
            validation=split.validation,
            test=split.test,
        )
    return path


def _open_split(path: Path) -> Split:
    with np.load(path) as kept:
        return Split(
            scheme=str(kept["scheme"]),
            seed=int(kept["seed"]),
            hash=path.stem,
            train=kept["train"],
            validation=kept["validation"],
            test=kept["test"],
        )


def keep_views(table: ViewTable) -> SharedViews:
    """Write the views' parameters to the cache."""
    parameters = cache_dir() / "views" / f"{table.key}.npy"
    _keep(parameters, table.parameters)
    partners = None
    if table.partners is not None:
        partners = parameters.with_stem(f"{table.key}-partners")
        _keep(partners, table.partners)
    return SharedViews(parameters=parameters, partners=partners, key=table.key)


def _keep(path: Path, values: NDArray[Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)
