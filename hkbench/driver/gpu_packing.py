"""How many trials share a GPU: by what each takes of its memory, as probed, predicted and then measured.

A share is 1/1, 1/2, 1/3, 1/4, 1/6 or 1/8 of a device, for Ray keeps a worker for each share that there is.
A trial gets the least share that holds it by its estimate, and a whole device as long as there is none. Where
an estimate was too low, the trial runs out of memory in its share, the estimates of all that are like it are
raised above that, and the trial goes on in a larger share.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from hkbench.driver.gpu_estimates import GpuEstimates, Kind
from hkbench.spaces.settings import TrialSettings
from hkbench.store.records import TelemetryRecord, Usage
from hkbench.training.gpu_memory import CONTEXT_BYTES, reserved_peak
from hkbench.training.memory_probe import MemoryProbe, ProbeJob, Prober
from hkbench.training.memory_process import probe_memory
from hkbench.trials.failures import GPU_BYTES
from hkbench.trials.shared import SharedData

log = logging.getLogger(__name__)

PARTS = (1, 2, 3, 4, 6, 8)
"""Into how many parts a device is divided."""
USABLE = 0.98
"""How much of what is free of a device its trials take together, CUDA's own part of each included."""
RAY_UNITS = 10_000
"""Ray counts a resource in ten-thousandths; rounded down, the shares never add up to more than a device."""
OTHERS = 0.1
"""How much of a device other processes hold at least where they, and not the trial, are to blame."""
RAN_OUT = "ran out of memory in {share} of a GPU"
"""What the record says of a trial that is requeued, and what is read from it again."""


class Decision(StrEnum):
    """What becomes of a trial that ran out of a GPU's memory."""

    REQUEUE = "requeue"
    TOO_LARGE = "too large"
    OCCUPIED = "occupied"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A decision with its reason: for the record or, of a trial that goes on, for the log.

    REQUEUE: it goes on from its last epoch, in `share`. TOO_LARGE: it ends as PRUNED with `constraints`.
    OCCUPIED: it ends as FAIL, for other processes held what was its own by right.
    """

    decision: Decision
    reason: str
    share: float
    asked_bytes: int | None

    @property
    def constraints(self) -> dict[str, float]:
        """By how much the device was too small: the bytes that were asked for, 1 where that isn't known."""
        if self.decision is not Decision.TOO_LARGE:
            return {}
        return {GPU_BYTES: float(self.asked_bytes or 1)}


class GpuPacking:
    """The shares of a search's trials. All its devices are taken to be like the smallest of them.

    Args:
        device_bytes: the memory of a device.
        cores_per_gpu: a node's cores for each of its devices; no more trials than that share one.
        data_bytes: image size → what the pictures of a trial take where they lie on the device.
        held_bytes: what isn't the trials': the driver's part of a device, a desktop's.
    """

    def __init__(
        self,
        *,
        device_bytes: int,
        cores_per_gpu: int,
        data_bytes: Mapping[int, int],
        held_bytes: int = 0,
    ) -> None:
        self._device_bytes = device_bytes
        self._free_bytes = max(0, device_bytes - held_bytes)
        self._parts = parts_for(cores_per_gpu)
        self._estimates = GpuEstimates(device_bytes=device_bytes, data_bytes=data_bytes)
        self._probed_context_bytes: int | None = None

    @property
    def least_share(self) -> float:
        """The least share of a device that a trial may have."""
        return _share(max(self._parts))

    @property
    def context_bytes(self) -> int:
        """What each process takes of a device beside torch's memory: the most that a probe has seen."""
        return CONTEXT_BYTES if self._probed_context_bytes is None else self._probed_context_bytes

    def probe(self, trials: Iterable[TrialSettings], classes: int, *, prober: Prober = probe_memory) -> None:
        """Measure one network of each kind among `trials`, the one with the most pixels in a batch.

        A kind whose probe fails has whole devices until a trial of it has been measured. What is compiled
        is never probed: that takes minutes.
        """
        largest: dict[Kind, TrialSettings] = {}
        for settings in trials:
            kind = Kind.of(settings)
            if not settings.compiled and _pixels(settings) >= _pixels(largest.get(kind, settings)):
                largest[kind] = settings
        chosen = list(largest.values())
        found = prober([job_of(settings, classes) for settings in chosen]) if chosen else []
        for settings, each in zip(chosen, found, strict=True):
            if isinstance(each, MemoryProbe):
                self.learn(settings, each)
            else:
                name = settings.architecture.label
                log.warning("%s isn't packed before it has been trained: %s", name, each.reason)

    def learn(self, settings: TrialSettings, probe: MemoryProbe) -> None:
        """Predict all trials of the kind of `settings` from a probe of it."""
        self._estimates.learn(settings, probe)
        self._probed_context_bytes = max(self._probed_context_bytes or 0, probe.context_bytes)

    def note_usage(self, settings: TrialSettings, usage: Usage) -> None:
        """Take in what an epoch of a trial has measured, where that tells the trial's own memory."""
        peak_bytes = reserved_peak(usage, self.context_bytes)
        if peak_bytes is not None:
            self.note_peak(settings, peak_bytes)

    def note_peak(self, settings: TrialSettings, peak_bytes: int) -> None:
        """Take in the most that torch has reserved for a trial; it raises estimates and lowers none."""
        # Stages that rest will wake: what a trial with some takes in its first epochs bounds no other.
        self._estimates.note(settings, peak_bytes, whole=settings.gradual_epochs == 0)

    def recall(self, telemetry: Iterable[TelemetryRecord], trials: Mapping[int, TrialSettings]) -> None:
        """Take in what a search that is resumed had measured.

        Args:
            telemetry: as recorded; rows of other work, or without GPU memory, are passed over.
            trials: the settings by trial number.
        """
        for row in telemetry:
            settings = trials.get(int(row.name)) if row.source == "trial" else None
            if settings is not None:
                self.note_usage(settings, row.usage)

    def recall_failures(self, settings: TrialSettings, reasons: Iterable[str]) -> None:
        """Take in the requeues of a trial of a search that is resumed, by the reasons on record."""
        for reason in reasons:
            found = re.search(RAN_OUT.format(share=r"1/(\d+)"), reason)
            if found is not None:
                self._lower_packing(settings, _share(int(found[1])), None)

    def share_of(self, settings: TrialSettings) -> float:
        """Return the least share of a device that holds a trial; 1 as long as nothing was measured."""
        needed = self._estimates.of(settings)
        shares = [_share(parts) for parts in reversed(self._parts)]
        if needed is None:
            return 1.0
        return next((share for share in shares if needed <= self.allowed_bytes(share)), 1.0)

    def allowed_bytes(self, share: float) -> int:
        """Return what torch may reserve in a share: CUDA's own part of each trial is left out."""
        return max(0, int(self._free_bytes * USABLE / _parts_of(share)) - self.context_bytes)

    def memory_fraction(self, share: float) -> float:
        """Return the fraction of a device for `limit_memory`; a trial that is alone has no limit."""
        return 1.0 if _parts_of(share) == 1 else self.allowed_bytes(share) / self._device_bytes

    def on_out_of_memory(
        self,
        number: int,
        settings: TrialSettings,
        share: float,
        asked_bytes: int | None,
        others_bytes: int | None = None,
    ) -> Verdict:
        """Decide on a trial that ran out of memory; nothing of it ends the study.

        Args:
            number: of the trial.
            settings: of the trial.
            share: of a device that it held.
            asked_bytes: what it asked for at last, None where that isn't known.
            others_bytes: what processes that are no trials of ours held meanwhile, None where unknown.
        """
        asked = "" if asked_bytes is None else f"; {_said(asked_bytes)} more were asked for"
        decision, next_share = Decision.TOO_LARGE, 1.0
        reason = f"out of memory alone on a GPU of {_said(self._device_bytes)}{asked}"
        if _parts_of(share) > 1:
            decision, next_share = Decision.REQUEUE, self._lower_packing(settings, share, asked_bytes)
            reason = (
                f"trial {number} {RAN_OUT.format(share=_named(share))}{asked}; it goes on in "
                f"{_named(next_share)}, and all of {settings.architecture.label} is packed less"
            )
        elif others_bytes is not None and others_bytes >= max(asked_bytes or 0, OTHERS * self._device_bytes):
            decision = Decision.OCCUPIED
            reason = f"out of memory on a GPU of which other processes held {_said(others_bytes)}{asked}"
        return Verdict(decision=decision, reason=reason, share=next_share, asked_bytes=asked_bytes)

    def _lower_packing(self, settings: TrialSettings, share: float, asked_bytes: int | None) -> float:
        """Raise the estimates above what a share holds, and return the share that a trial needs then."""
        least = max(self.allowed_bytes(share) + 1, asked_bytes or 0)
        self._estimates.note(settings, least, whole=False)
        return self.share_of(settings)


def parts_for(cores_per_gpu: int) -> list[int]:
    """Return into how many parts a device may be divided: none that would leave a trial without a core."""
    return [parts for parts in PARTS if parts <= max(1, cores_per_gpu)]


def job_of(settings: TrialSettings, classes: int) -> ProbeJob:
    """Return what to probe for trials like this one: its batch and half of it."""
    batch = settings.batch_size
    return ProbeJob(
        architecture=settings.architecture,
        classes=classes,
        batch_sizes=(batch // 2, batch) if batch >= 4 else (batch, 2 * batch),
        optimizer=settings.optimizer,
        unfreeze=settings.unfreeze,
        mixed_precision=settings.mixed_precision,
        averaged=settings.ema_decay is not None,
    )


def data_bytes_of(shared: SharedData) -> dict[int, int]:
    """Return image size → what a trial's pictures, views and teacher logits take where they lie on a GPU."""
    found = {}
    for image_size in shared.stores:
        data = shared.open(image_size).data
        pictures = data.pictures if data.inputs is None else data.inputs
        arrays = (pictures, data.labels, data.train, data.views, data.partners, data.teacher_logits)
        found[image_size] = sum(array.nbytes for array in arrays if array is not None)
    return found


def _pixels(settings: TrialSettings) -> int:
    return settings.batch_size * settings.image_size**2


def _share(parts: int) -> float:
    return RAY_UNITS // parts / RAY_UNITS


def _parts_of(share: float) -> int:
    return round(1 / share)


def _named(share: float) -> str:
    return "a whole one" if share == 1 else f"1/{_parts_of(share)}"


def _said(size_bytes: float) -> str:
    return f"{size_bytes / 1024**3:.1f} GiB" if size_bytes >= 1024**3 else f"{size_bytes / 1024**2:.0f} MiB"
