"""A training process of the packing measurement: trains when told to and says how many pictures that were.

Orders come line by line on standard input, answers leave on standard output. It catches nothing: the pool
reads the reason of a failure from how the process ended. It ends when its standard input does, so it never
outlives the process that started it.
"""

import os
import queue
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, PositiveInt

from hkbench.models.build import build
from hkbench.training.feed import TrainingData
from hkbench.training.loop import Training, TrainingConfig

CLASSES = 69
WARM_UP_STEPS = 3
"""Enough for memory, kernels and threads to be there."""
WARM_UP_S = 2.0
"""Beside a busy neighbour a step of many threads can take seconds, so that the steps may be fewer."""
READY = "ready"


class TrainJob(BaseModel):
    """What a worker trains: the first line that it is sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    image_size: PositiveInt
    batch_size: PositiveInt


class Window(BaseModel):
    """When pictures count: the second line of a round, in seconds of `time.perf_counter`.

    That clock is the system's, so it is the same in all processes. The first line is the number of threads.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start_s: float
    end_s: float

    def share(self, start_s: float, end_s: float) -> float:
        """Return how much of a step, begun and ended at these moments, lies within the window, in [0, 1]."""
        within = min(end_s, self.end_s) - max(start_s, self.start_s)
        return max(0.0, within) / (end_s - start_s)


def main() -> None:
    """Train by orders until there are no more."""
    # Libraries in C print to standard output as they please: the answers get a pipe of their own.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    order = _orders()
    step = _step_of(TrainJob.model_validate_json(order()))
    while True:
        torch.set_num_threads(int(order()))
        _warm_up(step)
        print(READY, file=answers, flush=True)
        print(_train(step, Window.model_validate_json(order())), file=answers, flush=True)


def _orders() -> Callable[[], str]:
    """Return what waits for the next line; a thread reads them, to see at once that there are no more."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines.get


def _step_of(job: TrainJob) -> Callable[[], int]:
    """Return what trains one batch, as a trial does, and returns its number of pictures."""
    random = np.random.default_rng(0)
    side, pictures = job.image_size, job.batch_size
    every = np.arange(pictures)
    data = TrainingData(
        pictures=np.zeros((pictures, 3, side, side), np.uint8),  # not read: the views are made already
        labels=random.integers(CLASSES, size=pictures),
        train=every,
        validation=every[:0],
        views=np.zeros((1, pictures, 1), np.float16),
        inputs=random.integers(256, size=(1, pictures, side, side, 3), dtype=np.uint8),
    )
    config = TrainingConfig(epochs=1, batch_size=pictures)
    network = build(job.model, classes=CLASSES, seed=0)
    training = Training(network, data, config, torch.device("cpu"))

    def step() -> int:
        training.train_epoch()  # of one batch
        return pictures

    return step


def _warm_up(step: Callable[[], int]) -> None:
    started = time.perf_counter()
    for _ in range(WARM_UP_STEPS):
        step()
        if time.perf_counter() - started > WARM_UP_S:
            return


def _train(step: Callable[[], int], window: Window) -> float:
    """Train until the window ends; return the pictures within it, with the parts of steps at its edges."""
    found = 0.0
    ended = time.perf_counter()
    while ended < window.end_s:
        started = ended
        pictures = step()
        ended = time.perf_counter()
        found += pictures * window.share(started, ended)
    return found


if __name__ == "__main__":
    main()
