"""An epoch of distillation beside its own forward, backward and optimiser steps: what all else costs."""

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.bare_step import BATCH, SIZE, bare_step
from benchmarks.claim import Claim, cold_cache, machine, main
from hkbench.data.augment import ViewPolicy, sample_views
from hkbench.data.build import build_stores
from hkbench.data.sources import open_source
from hkbench.data.splits import load_split
from hkbench.models.build import build
from hkbench.training.ahead import open_ahead
from hkbench.training.feed import TrainingData
from hkbench.training.logits import TeacherPass
from hkbench.training.loop import Training, TrainingConfig
from hkbench.training.losses import loss_config
from hkbench.training.optimizers import OptimizerConfig, build_optimizer
from hkbench.training.precision import mixed_dtype, suit_bfloat16
from hkbench.training.rendered import rendered_views
from hkbench.training.teacher import TeacherRecipe, find_teacher
from hkbench.trials.shared import shortened

MODEL = "mobilenetv4_conv_small_050"
TARGET = 1.05
CPU = torch.device("cpu")
CONFIG = TrainingConfig(
    epochs=100,
    batch_size=BATCH,
    optimizer=OptimizerConfig(name="sgd", learning_rate=0.02),
    loss=loss_config("kd", alpha=0.3, temperature=2),
)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What is made ahead of an epoch, and what that took."""

    data: TrainingData
    classes: int
    seconds: dict[str, float]


def measure(quick: bool) -> Claim:
    """Compare an epoch's wall time with as many bare steps on one resident batch."""
    torch.set_num_threads(1)
    with cold_cache():
        return _measure(quick)


def _measure(quick: bool) -> Claim:
    prepared = _prepare(train_pictures=1280 if quick else None, views=2 if quick else 4)
    training = Training(_network(prepared.classes), prepared.data, CONFIG, CPU)
    bare = _Bare(prepared.classes)
    training.train_epoch()
    bare.run(10)
    pairs = []
    for number in range(4 if quick else 8):  # in turn, either first, so that a drift hits both
        floor = bare.run(training.steps_an_epoch) if number % 2 else 0.0
        started = time.perf_counter()
        training.train_epoch()
        epoch = time.perf_counter() - started
        training.epoch += 1  # the next view of each picture
        pairs.append((epoch, floor or bare.run(training.steps_an_epoch)))
    ratios = [epoch / floor for epoch, floor in pairs]
    value = statistics.median(ratios)
    pictures = training.steps_an_epoch * BATCH
    return Claim(
        name="kd_epoch",
        value=value,
        unit="times the bare steps",
        target=f"at most {TARGET}",
        holds=value <= TARGET,
        details={
            "ratios": ratios,
            "epoch_s": [epoch for epoch, _ in pairs],
            "bare_steps_s": [floor for _, floor in pairs],
            "ms_a_picture": statistics.median(epoch for epoch, _ in pairs) / pictures * 1e3,
            "steps": training.steps_an_epoch,
            "precision": str(mixed_dtype(CPU, wanted=None) or torch.float32),
            "made_ahead_s": prepared.seconds,
            **machine(threads=1),
        },
    )


def _prepare(train_pictures: int | None, views: int) -> Prepared:
    seconds: dict[str, float] = {}

    def timed(name: str, make: Any) -> Any:
        started = time.perf_counter()
        made = make()
        seconds[name] = time.perf_counter() - started
        return made

    source = open_source("goods69")
    recipe = TeacherRecipe()
    stores = timed("stores", lambda: build_stores(source, (SIZE, recipe.image_size)))
    store = stores[SIZE]
    whole = load_split(store, "random")
    split = shortened(whole, train_pictures)
    teacher = find_teacher(recipe, store.fingerprint, whole.hash)
    assert teacher is not None, "goods69's teacher is shipped"
    table = sample_views(views, len(split.train), 0, ViewPolicy())
    logits = timed("teacher logits", lambda: TeacherPass([teacher], stores, split, CPU).logits(table))
    rendered = timed("views", lambda: rendered_views([store], split, table))[SIZE]
    data = TrainingData(
        pictures=store.pictures,
        labels=store.labels,
        train=split.train,
        validation=split.validation,
        views=table.parameters,
        teacher_logits=open_ahead(logits, views),
        inputs=open_ahead(rendered, views),
    )
    return Prepared(data=data, classes=len(store.classes), seconds=seconds)


def _network(classes: int) -> torch.nn.Module:
    return build(MODEL, classes=classes, seed=0)


class _Bare:
    """As many bare steps: the physical floor."""

    def __init__(self, classes: int) -> None:
        network = _network(classes).train()
        dtype = mixed_dtype(CPU, wanted=None)
        if dtype is not None:
            suit_bfloat16(network)
        self._step = bare_step(network, build_optimizer(network, CONFIG.optimizer), dtype, classes)

    def run(self, steps: int) -> float:
        """Return the seconds of so many steps."""
        started = time.perf_counter()
        for _ in range(steps):
            self._step()
        return time.perf_counter() - started


if __name__ == "__main__":
    main(measure)
