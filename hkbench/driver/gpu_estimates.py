"""What each trial will take of a GPU's memory: by a probe's model, by what was measured, never below that."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hkbench.spaces.settings import TrialSettings
from hkbench.training.feed import RESIDENT_SHARE
from hkbench.training.memory_model import MemoryModel, weight_copies
from hkbench.training.memory_probe import MemoryProbe

MARGIN = 0.1
"""How much more than its model says a network is given: workspaces and fragments differ from step to step."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What trials have in common that one model predicts: all but batch, picture size and optimiser."""

    structure: str
    unfreeze: str
    mixed_precision: bool | None
    compiled: bool

    @classmethod
    def of(cls, settings: TrialSettings) -> "Kind":
        """Return the kind of a trial."""
        return cls(
            structure=settings.architecture.model_dump_json(exclude={"image_size"}),
            unfreeze=settings.unfreeze,
            mixed_precision=settings.mixed_precision,
            compiled=settings.compiled,
        )


@dataclass(frozen=True, kw_only=True)
class _Extent:
    """What a trial of a kind was measured at. One that isn't `whole` would have grown: it bounds no other."""

    batch_size: int
    image_size: int
    copies: int
    whole: bool

    @classmethod
    def of(cls, settings: TrialSettings, *, whole: bool) -> "_Extent":
        copies = weight_copies(settings.optimizer, averaged=settings.ema_decay is not None)
        return cls(batch_size=settings.batch_size, image_size=settings.image_size, copies=copies, whole=whole)

    def is_within(self, other: "_Extent") -> bool:
        """Whether `other` takes at least as much by its batch and its pictures."""
        return self.batch_size <= other.batch_size and self.image_size <= other.image_size

    def bounds(self, other: "_Extent") -> bool:
        """Whether it says what `other` takes at most: not if that keeps more copies of the weights."""
        return self.whole and self.copies >= other.copies

    def growth_to(self, other: "_Extent") -> float:
        """Return how many times as much `other` takes at most: as if all of it grew with its pictures."""
        area = (other.image_size / self.image_size) ** 2
        return max(1.0, other.batch_size / self.batch_size) * max(1.0, area)


class GpuEstimates:
    """Estimates of what torch reserves for a trial, its pictures on the device included.

    Args:
        device_bytes: the memory of a device.
        data_bytes: image size → what the pictures of a trial take where they lie on the device.
    """

    def __init__(self, *, device_bytes: int, data_bytes: Mapping[int, int]) -> None:
        self._device_bytes = device_bytes
        self._data_bytes = data_bytes
        self._models: dict[Kind, MemoryModel] = {}
        self._raised: dict[Kind, float] = {}
        self._measured: dict[Kind, dict[_Extent, int]] = {}

    def learn(self, settings: TrialSettings, probe: MemoryProbe) -> None:
        """Predict all trials of the kind of `settings` from a probe of it."""
        self._models[Kind.of(settings)] = MemoryModel.fitted(probe)

    def note(self, settings: TrialSettings, least_bytes: int, *, whole: bool) -> None:
        """Raise the estimates of a kind so that they don't contradict what one trial took.

        Args:
            settings: of the trial.
            least_bytes: what it took at least.
            whole: whether that is all it will ever take, so that smaller trials take no more.
        """
        kind, extent = Kind.of(settings), _Extent.of(settings, whole=whole)
        known = self._measured.setdefault(kind, {})
        if kind in self._models:
            base = self._base(settings) or least_bytes
            self._raised[kind] = max(self._raised.get(kind, 1.0), least_bytes / base)
        for each, size in known.items():  # where what bounded this trial was too low, it is moved up to it
            bound = size * each.growth_to(extent)
            if each.bounds(extent) and bound < least_bytes:
                known[each] = math.ceil(size * least_bytes / bound)
        known[extent] = max(known.get(extent, 0), least_bytes)

    def of(self, settings: TrialSettings) -> float | None:
        """Return the bytes that torch will reserve for a trial; None as long as its kind is unknown."""
        base = self._base(settings)
        if base is None:
            return None
        kind, extent = Kind.of(settings), _Extent.of(settings, whole=True)
        known = self._measured.get(kind, {})
        floor = max((size for each, size in known.items() if each.is_within(extent)), default=0)
        return max(base * self._raised.get(kind, 1.0), floor)

    def _base(self, settings: TrialSettings) -> float | None:
        """Return the estimate before it is raised: the model's, or the lowest bound by measured trials."""
        kind, extent = Kind.of(settings), _Extent.of(settings, whole=True)
        model = self._models.get(kind)
        if model is not None:
            predicted = model.peak_bytes(
                batch_size=settings.batch_size,
                image_size=settings.image_size,
                optimizer=settings.optimizer,
                averaged=settings.ema_decay is not None,
            )
            return (1 + MARGIN) * predicted + self._resident_bytes(settings.image_size)
        bounds = [
            size * each.growth_to(extent)
            for each, size in self._measured.get(kind, {}).items()
            if each.bounds(extent)
        ]
        return min(bounds, default=None)

    def _resident_bytes(self, image_size: int) -> int:
        """Return what a trial's pictures take of a device: nothing if they are so many that they stream."""
        there = self._data_bytes.get(image_size, 0)
        return there if there <= RESIDENT_SHARE * self._device_bytes else 0
