"""How much of a GPU a training takes, by batch, size of the pictures and optimiser: a line through a probe.

    peak ≈ fixed + weights · copies(optimiser) + per_picture · batch · (size / probed size)²

Feature maps grow with the pictures' area, and with the batch. Weights are there as themselves and as
gradients, the optimiser keeps up to two more of each, an average one.
"""

from dataclasses import dataclass
from typing import Self

from hkbench.training.memory_probe import MemoryProbe

STATES = {
    "sgd": 1,
    "momentum": 1,
    "plain_sgd": 0,
    "rmsprop": 2,
    "adagrad": 1,
    "adadelta": 2,
    "adam": 2,
    "adamw": 2,
    "nadamw": 2,
    "lion": 1,
    "muon": 2,
}
"""What an optimiser keeps, as multiples of the weights; Muon one for a matrix and two for all else."""
UNFUSED = ("rmsprop", "adadelta", "nadamw", "lion", "muon")
"""Optimisers whose step makes a copy of the weights by the way."""


def weight_copies(optimizer: str, *, averaged: bool) -> int:
    """Return how many copies of the weights a training keeps: weights, gradients, states, an average."""
    return 2 + STATES[optimizer] + averaged


@dataclass(frozen=True, kw_only=True)
class MemoryModel:
    """The line of one network at one picture size; all in bytes that torch reserves.

    `intercept_bytes` holds the weights' copies of the probed optimiser. `evaluation_bytes` is the peak of
    an evaluation, whose batch isn't the training's.
    """

    image_size: int
    optimizer: str
    averaged: bool
    weight_bytes: int
    intercept_bytes: float
    per_picture_bytes: float
    evaluation_bytes: int

    @classmethod
    def fitted(cls, probe: MemoryProbe) -> Self:
        """Lay the line so that neither measured peak is above it.

        The slope is the larger of those of reserved and allocated memory: torch reserves in blocks of up to
        20 MiB, behind which a small network's growth can hide.
        """
        small, large = probe.peaks
        pictures = large.batch_size - small.batch_size
        slope = max(
            (large.reserved_bytes - small.reserved_bytes) / pictures,
            (large.allocated_bytes - small.allocated_bytes) / pictures,
            0.0,
        )
        intercept = max(peak.reserved_bytes - slope * peak.batch_size for peak in probe.peaks)
        return cls(
            image_size=probe.job.architecture.image_size,
            optimizer=probe.job.optimizer,
            averaged=probe.job.averaged,
            weight_bytes=probe.weight_bytes,
            intercept_bytes=max(0.0, intercept),
            per_picture_bytes=slope,
            evaluation_bytes=probe.evaluation_bytes,
        )

    def peak_bytes(self, *, batch_size: int, image_size: int, optimizer: str, averaged: bool) -> float:
        """Return what such a training of the same network will reserve, without any margin."""
        area = (image_size / self.image_size) ** 2
        more = self._more_for(optimizer, averaged=averaged)
        training = self.intercept_bytes + self.per_picture_bytes * batch_size * area
        evaluation = self.evaluation_bytes * max(1.0, area)
        return max(0.0, training + more, evaluation + more)

    def _more_for(self, optimizer: str, *, averaged: bool) -> int:
        """Return what another optimiser keeps more of the weights than the probed one; less is below 0."""
        if (optimizer, averaged) == (self.optimizer, self.averaged):
            return 0
        copies = weight_copies(optimizer, averaged=averaged)
        more = copies - weight_copies(self.optimizer, averaged=self.averaged)
        if optimizer in UNFUSED and self.optimizer not in UNFUSED:
            more += 1
        return more * self.weight_bytes
