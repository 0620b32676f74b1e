"""One trial: a point of the space on its way through its epochs. Knows nothing of Ray."""

import errno
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hkbench.config import cache_dir
from hkbench.errors import HkbenchError
from hkbench.models.build import build
from hkbench.spaces.settings import TrialSettings
from hkbench.store.blocks import Advance
from hkbench.store.device_lock import DeviceShare, devices_of
from hkbench.store.records import Metrics
from hkbench.telemetry.nvml import cuda_uuid
from hkbench.telemetry.sampler import Sampler
from hkbench.training.checkpoint import DamagedCheckpointError, load_checkpoint, save_checkpoint
from hkbench.training.forward import classifier_of
from hkbench.training.gpu_memory import out_of_memory_of, peak_reserved_bytes, with_own_peak
from hkbench.training.loop import EpochResult, Training
from hkbench.trials.arrival import Origin
from hkbench.trials.checkpoint_store import CheckpointStore, StoredFile
from hkbench.trials.failures import Cause
from hkbench.trials.fence import Fence
from hkbench.trials.shared import OpenData, SharedData

log = logging.getLogger(__name__)

REASON_CHARACTERS = 400
HOST_MEMORY = "DefaultCPUAllocator"
"""What torch names when the machine's memory doesn't suffice."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What holds for every trial of a search; sent to the workers once for each trial, so only paths."""

    shared: SharedData
    checkpoints: CheckpointStore
    max_epochs: int
    seed: int
    threads: int
    device: str
    origin: Origin | None = None
    fence: Fence | None = None

    def checkpoint(self, number: int) -> Path | StoredFile:
        """Return where a trial keeps its last epoch."""
        return self.checkpoints.of_trial(number)

    @property
    def notes(self) -> Path:
        """The folder where a hung worker leaves a note: beside the checkpoints, where that is a folder."""
        return self.checkpoints.folder or cache_dir() / "hung"


class TrialRun:
    """One trial from its first or its last kept epoch on; built when the first epoch is asked for.

    `attempt` counts the workers of this run that had it before; `thaws` names the stopped trial of the same
    point that it goes on from.
    """

    def __init__(
        self,
        job: Job,
        number: int,
        settings: TrialSettings,
        recorded_epochs: int,
        *,
        attempt: int = 0,
        thaws: int | None = None,
        on_step: Advance | None = None,
    ) -> None:
        self._job = job
        self._number = number
        self._settings = settings
        self._recorded_epochs = recorded_epochs
        self._thaws = thaws
        self._on_step = on_step
        self._fence = job.fence.of_attempt(attempt) if job.fence is not None else None

    def results(self, data: OpenData) -> Iterator[dict[str, Any]]:
        """Yield a flat result when the trial is built, and for each epoch whose checkpoint is on disk.

        Epochs whose checkpoint was kept but whose results the driver never recorded are reported again
        from the checkpoint, so that a kill between the two loses nothing. Where the checkpoint is gone or
        damaged, the trial begins anew, and reports the recorded epochs once more.

        Raises:
            FencedOffError: another worker has the trial now.
        """
        with Sampler(device_uuid=_uuid(torch.device(self._job.device))) as sampler:
            yield from self._results(data, sampler)

    def _results(self, data: OpenData, sampler: Sampler) -> Iterator[dict[str, Any]]:
        training, results = self._taken_up(data)
        training.on_step = self._on_step
        training.device_share = _share_of(torch.device(self._job.device))
        yield {"number": self._number, "built": True}
        yield from (dict(result) for result in results if result["epoch"] > self._recorded_epochs)
        for epoch in training.epochs():
            self._job.shared.touch()
            result = self._result(epoch, sampler, training.precision)
            if epoch.epoch == self._job.max_epochs:
                with training.device_share:
                    result |= self._as_shipped(training, data)
            results.append(result)
            state = {"training": training.state_dict(), "results": results}
            save_checkpoint(self._job.checkpoint(self._number), state, self._check_fence)
            yield result

    def _taken_up(self, data: OpenData) -> tuple[Training, list[dict[str, Any]]]:
        """Return the training where its checkpoint left it, and the results of its epochs so far."""
        training, path = self.build(data), self._job.checkpoint(self._number)
        thawing = self._thaws is not None and not path.exists()
        if self._thaws is not None and thawing:
            path = self._job.checkpoint(self._thaws)
        if not self._recorded_epochs and not path.exists():
            return training, []
        try:
            state = load_checkpoint(path)
            results: list[dict[str, Any]] = state["results"]
            training.load_state_dict(state["training"])
            if thawing:
                results = [self._had_before(result) for result in results]
        except (DamagedCheckpointError, KeyError, TypeError, ValueError, RuntimeError) as error:
            if out_of_memory_of(error) is not None:  # the checkpoint is whole
                raise
            log.warning("trial %d begins anew: %s", self._number, error)
            return self.build(data), []
        return training, results

    def _had_before(self, result: dict[str, Any]) -> dict[str, Any]:
        """Return the result of an epoch of the trial that this one thaws, which costs nothing again."""
        spent = ("seconds", "usage_seconds", "usage_cpu_seconds", "usage_gpu_seconds", "usage_energy_j")
        free = {name: 0.0 for name in spent if result.get(name) is not None}
        return {**result, **free, "number": self._number, "thawed": True}

    def _check_fence(self) -> None:
        if self._fence is not None:
            self._fence.check(self._number)

    def _as_shipped(self, training: Training, data: OpenData) -> Metrics:
        """Return the metrics of the file that would be shipped, where that isn't float32."""
        if self._settings.precision == "fp32":
            return {}
        from hkbench.shipping.estimate import narrow_metrics  # only a worker that needs it pays for it
        from hkbench.shipping.parts import Parts

        return narrow_metrics(
            classifier_of(training.trained),
            self._settings.precision,
            Parts(store=data.store, split=data.split),
            threads=self._job.threads,
        )

    def build(self, data: OpenData) -> Training:
        """Build the network, its optimiser and its schedule."""
        device = torch.device(self._job.device)
        settings = self._settings
        network = build(
            settings.architecture,
            classes=len(self._job.shared.classes),
            weights=settings.weights,
            unfreeze=settings.unfreeze,
            seed=self._job.seed + settings.seed,
        )
        config = settings.training(self._job.max_epochs, self._job.seed + settings.seed)
        return Training(network, data.for_network(network, device, self._job.threads), config, device)

    def _result(self, epoch: EpochResult, sampler: Sampler, precision: str) -> dict[str, Any]:
        own = with_own_peak(sampler.lap(), peak_reserved_bytes(torch.device(self._job.device)))
        usage = own.model_dump(exclude={"schema_version"})
        return {
            "number": self._number,
            "epoch": epoch.epoch,
            "train_loss": epoch.train_loss,
            "learning_rate": epoch.learning_rate,
            "seconds": epoch.seconds,
            **epoch.metrics,
            **{f"usage_{name}": value for name, value in usage.items()},
            "device": self._job.device,
            "precision": precision,
            "node": None,
        }


def _share_of(device: torch.device) -> DeviceShare:
    """Return a trial's share of its device, which measurements on this machine pause it by."""
    finish = None if device.type == "cpu" else partial(torch.cuda.synchronize, device)
    return DeviceShare(devices_of(_uuid(device)), finish=finish)


def _uuid(device: torch.device) -> str | None:
    return None if device.type == "cpu" else cuda_uuid(device.index or 0)


def failure_of(error: Exception) -> dict[str, Any]:
    """Return what a trial that can't go on reports: why, and of which kind the cause is."""
    report = {"failed": _reason(error), "cause": cause_of(error)}
    memory = out_of_memory_of(error)
    if memory is None:
        return report
    return {**report, "oom_asked_bytes": memory.asked_bytes, "oom_others_bytes": memory.others_bytes}


def cause_of(error: Exception) -> Cause:
    """Return of which kind an exception is: whether it would come again decides what becomes of the trial."""
    cause = error.__cause__ if isinstance(error, HkbenchError) and error.__cause__ is not None else error
    if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError | PermissionError):
        return Cause.NO_ROOM if cause.errno in (errno.ENOSPC, errno.EDQUOT) else Cause.STORAGE
    if out_of_memory_of(error) is not None:
        return Cause.GPU_MEMORY
    if isinstance(cause, MemoryError) or (isinstance(cause, RuntimeError) and HOST_MEMORY in str(cause)):
        return Cause.MEMORY
    return Cause.ERROR


def _reason(error: Exception) -> str:
    if isinstance(error, HkbenchError):
        text = str(error)  # names what is wrong by itself
    else:
        text = f"{type(error).__name__}: {error}".splitlines()[0] if str(error) else type(error).__name__
    return text[:REASON_CHARACTERS]
