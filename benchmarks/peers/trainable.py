"""One trial of the peer inside Ray Tune, timed.

Source: Ray's "How to use Tune with PyTorch": a function, a report and a checkpoint an epoch.
"""

import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from ray import tune

from benchmarks.peers.online_kd import OnlineDistillation
from benchmarks.peers.plan import PeerPlan, PeerSettings


def train(config: dict[str, float], *, plan: PeerPlan, settings: PeerSettings) -> None:
    """Train one trial inside Ray Tune, with a report and a checkpoint an epoch, and time its parts."""
    trial = OnlineDistillation(config, plan, settings)
    spent = {"first_batch_s": 0.0, "train_s": 0.0, "validation_s": 0.0}
    for _ in range(plan.epochs):
        steps = _train_epoch(trial, plan, spent)
        started = time.perf_counter()
        accuracy = trial.accuracy()
        spent["validation_s"] += time.perf_counter() - started
        with tempfile.TemporaryDirectory() as folder:
            state = (trial.student.state_dict(), trial.optimizer.state_dict())
            torch.save(state, Path(folder) / "checkpoint.pt")
            metrics: dict[str, Any] = {"accuracy": accuracy, "steps": steps, **spent}
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def _train_epoch(trial: OnlineDistillation, plan: PeerPlan, spent: dict[str, float]) -> int:
    """Train one epoch, add what it took to `spent` and return its number of steps."""
    trial.student.train()
    started = ended = time.perf_counter()
    steps = 0
    for inputs, labels in itertools.islice(trial.train_loader, plan.steps):
        if steps == 0:
            spent["first_batch_s"] += time.perf_counter() - started
        trial.step(inputs, labels)
        steps += 1
        ended = time.perf_counter()
    spent["train_s"] += ended - started  # without the end of loaders that were cut short
    return steps
