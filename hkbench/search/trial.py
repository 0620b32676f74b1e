"""One trial: a point of the space on its way through its epochs. Knows nothing of Ray."""

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hkbench.errors import HkbenchError
from hkbench.models.build import build
from hkbench.search.settings import TrialSettings
from hkbench.search.shared import OpenData, SharedData
from hkbench.store.blocks import Advance
from hkbench.store.records import Metrics
from hkbench.telemetry.nvml import cuda_uuid
from hkbench.telemetry.sampler import Sampler
from hkbench.training.checkpoint import load_checkpoint, save_checkpoint
from hkbench.training.forward import classifier_of
from hkbench.training.loop import EpochResult, Training

REASON_CHARACTERS = 400


@dataclass(frozen=True, kw_only=True)
class Job:
    """What holds for every trial of a search; sent to the workers once for each trial, so only paths."""

    shared: SharedData
    checkpoints: Path
    max_epochs: int
    seed: int
    threads: int
    device: str
    on_cluster: bool = False

    def checkpoint(self, number: int) -> Path:
        """Return where a trial keeps its last epoch."""
        return self.checkpoints / f"{number:05d}.pt"


class TrialRun:
    """One trial from its first or its last kept epoch on; built when the first epoch is asked for."""

    def __init__(
        self,
        job: Job,
        number: int,
        settings: TrialSettings,
        recorded_epochs: int,
        *,
        on_step: Advance | None = None,
    ) -> None:
        self._job = job
        self._number = number
        self._settings = settings
        self._recorded_epochs = recorded_epochs
        self._on_step = on_step

    def results(self, data: OpenData) -> Iterator[dict[str, Any]]:
        """Yield a flat result for each epoch, after its checkpoint is on disk.

        Epochs whose checkpoint was kept but whose results the driver never recorded are reported again
        from the checkpoint, so that a kill between the two loses nothing.
        """
        with Sampler(device_uuid=_uuid(torch.device(self._job.device))) as sampler:
            yield from self._results(data, sampler)

    def _results(self, data: OpenData, sampler: Sampler) -> Iterator[dict[str, Any]]:
        training = self.build(data)
        training.on_step = self._on_step
        path = self._job.checkpoint(self._number)
        results: list[dict[str, Any]] = []
        if self._recorded_epochs or path.exists():
            state = load_checkpoint(path)
            training.load_state_dict(state["training"])
            results = state["results"]
            yield from (dict(result) for result in results if result["epoch"] > self._recorded_epochs)
        for epoch in training.epochs():
            self._job.shared.touch()
            result = self._result(epoch, sampler, training.precision)
            if epoch.epoch == self._job.max_epochs:
                result |= self._as_shipped(training, data)
            results.append(result)
            save_checkpoint(path, {"training": training.state_dict(), "results": results})
            yield result

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
        usage = sampler.lap().model_dump(exclude={"schema_version"})
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
            "node": socket.gethostname() if self._job.on_cluster else None,
        }


def _uuid(device: torch.device) -> str | None:
    return None if device.type == "cpu" else cuda_uuid(device.index or 0)


def failure_of(error: Exception) -> dict[str, Any]:
    """Return what a trial that can't go on reports: why, and whether it is a full disk that is to blame."""
    return {"failed": _reason(error), "no_room": _is_full_disk(error)}


def _reason(error: Exception) -> str:
    if isinstance(error, HkbenchError):
        text = str(error)  # names what is wrong by itself
    else:
        text = f"{type(error).__name__}: {error}".splitlines()[0] if str(error) else type(error).__name__
    return text[:REASON_CHARACTERS]


def _is_full_disk(error: Exception) -> bool:
    """Say whether the trial is not to blame: its checkpoint found no room."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
