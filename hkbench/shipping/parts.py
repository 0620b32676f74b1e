"""The pictures that files are checked and scored on, and calibrated with."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hkbench.analysis.predictions import PredictionBlock
from hkbench.config import usable_cores
from hkbench.data.build import build_stores
from hkbench.data.sources import open_source
from hkbench.data.splits import SPLIT_SEED, Split, load_split, shortened
from hkbench.data.store import PictureStore
from hkbench.errors import UsageError
from hkbench.export.session import OnnxClassifier
from hkbench.store.records import RunRecord

CALIBRATION_PICTURES = 256
SCORED_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The decoded pictures of one size, and how they are split."""

    store: PictureStore
    split: Split

    def rows(self, part: str) -> NDArray[np.int64]:
        """Return the pictures of a part: train, validation or test."""
        found: NDArray[np.int64] = getattr(self.split, part)
        return found

    def pictures(self, part: str) -> NDArray[np.uint8]:
        """Return a part's pictures: uint8 (N, 3, S, S)."""
        found: NDArray[np.uint8] = self.store.pictures[self.rows(part)]
        return found

    def labels(self, part: str) -> NDArray[np.int64]:
        """Return a part's labels: int64 (N,)."""
        return self.store.labels[self.rows(part)]

    def calibration(self) -> NDArray[np.uint8]:
        """Return some pictures of the train part, always the same: uint8 (at most 256, 3, S, S)."""
        rows = self.split.train
        drawn = np.random.default_rng(0).permutation(rows)[:CALIBRATION_PICTURES]
        found: NDArray[np.uint8] = self.store.pictures[np.sort(drawn)]
        return found

    def block(self, model_id: str, part: str, logits: NDArray[np.float32]) -> PredictionBlock:
        """Return a file's answers on a part as they are kept."""
        rows, groups = self.rows(part), self.store.groups
        return PredictionBlock(
            model_id=model_id,
            part=part,
            picture_ids=[self.store.ids[row] for row in rows],
            groups=[groups[row] for row in rows] if groups is not None else None,
            labels=self.store.labels[rows],
            logits=logits.astype(np.float16),
        )

    def scored(
        self, model_id: str, classifier: OnnxClassifier, parts: Sequence[str]
    ) -> Iterator[PredictionBlock]:
        """Yield what a file answers on each of `parts`."""
        for part in parts:
            yield self.block(model_id, part, classifier.logits(self.pictures(part), batch=SCORED_BATCH))


def scoring_threads() -> int:
    """Return how many threads a file is scored with; how long it takes is not what is asked."""
    return usable_cores()


def parts_of_run(
    run: RunRecord, sizes: Sequence[int], advance: Callable[[int, int], None] | None = None
) -> dict[int, Parts]:
    """Decode, or find, the pictures that a run was made with, at the sizes that are asked for.

    Raises:
        UsageError: the run says nothing of its pictures, or they, or their split, are others now.
    """
    config, there = run.config, run.data
    if there is None:
        raise UsageError(f"{run.name} doesn't say which pictures it was made with: let its search finish.")
    source = open_source(config.get("data", there.name), config.get("group_by"))
    stores = build_stores(source, sorted(sizes), advance=advance)
    whole = load_split(
        next(iter(stores.values())),
        config.get("split", there.split.scheme),
        config.get("split_seed", SPLIT_SEED),
    )
    short = shortened(whole, there.split.train)
    split = next((each for each in (whole, short) if each.hash == there.split.hash), None)
    if source.fingerprint != there.fingerprint or split is None:
        raise UsageError(
            f"{run.name} was made with other pictures, or another split, than {source.name} holds now; a "
            "file can only be checked on the pictures that its network was judged by."
        )
    return {size: Parts(store=store, split=split) for size, store in stores.items()}
