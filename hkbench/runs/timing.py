"""How long an epoch of a plan's first network takes on this machine, from some of its steps."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from hkbench.data.augment import sample_views
from hkbench.data.splits import Split
from hkbench.data.store import PictureStore
from hkbench.driver.plan import SearchPlan, with_epochs
from hkbench.models.build import build
from hkbench.models.classifier import Classifier
from hkbench.training.ahead import torch_threads
from hkbench.training.features import feature_shape
from hkbench.training.feed import TrainingData
from hkbench.training.loop import Training

TIMED_PICTURES = 384
TIMED_SECONDS = 2.0
FEWEST_TIMES = 3
BUDGET_SHARE = 0.95
"""The rest of a training's budget is for what the timed steps don't show, such as a checkpoint each epoch."""


def epoch_seconds(plan: SearchPlan, stores: dict[int, PictureStore], split: Split) -> float:
    """Time some steps, and some of the evaluation, and return what a whole epoch takes."""
    settings = plan.space.first_settings()
    # Hard labels, for the teacher's logits aren't there yet, and all stages awake.
    config = settings.model_copy(update={"loss": "hard", "gradual_epochs": 0}).training(epochs=3, seed=0)
    store = stores[settings.image_size]
    network = build(settings.architecture, classes=len(store.classes), unfreeze=settings.unfreeze, seed=0)
    data = _timed_data(plan, network, store, split)
    training = Training(network, data, config, torch.device(plan.device))
    with torch_threads(plan.threads):
        training.train_epoch()  # the first steps prepare
        step_seconds = _typical_seconds(training.train_epoch)
        evaluation_seconds = _typical_seconds(training.evaluate)
    trained = training.steps_an_epoch * config.batch_size  # pictures
    training_share, checking_share = len(split.train) / trained, len(split.validation) / len(data.validation)
    return step_seconds * training_share + evaluation_seconds * checking_share


def _typical_seconds(work: Callable[[], object]) -> float:
    """Return the median time of a piece of work that is done again and again for some seconds."""
    times: list[float] = []
    while len(times) < FEWEST_TIMES or sum(times) < TIMED_SECONDS:
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _timed_data(plan: SearchPlan, network: Classifier, store: PictureStore, split: Split) -> TrainingData:
    """Return some pictures as a trial will read them: views made ahead, or features of what is frozen."""
    timed, checked = split.train[:TIMED_PICTURES], split.validation[:TIMED_PICTURES]
    data = TrainingData(
        pictures=store.pictures,
        labels=store.labels,
        train=timed,
        validation=checked,
        views=sample_views(1, len(split.train), plan.seed, plan.space.augmentation).parameters,
    )
    if network.kept_stages:
        shape = feature_shape(network, store.size, torch.device("cpu"))
        train, validation = (np.zeros((len(rows), *shape), dtype=np.float16) for rows in (timed, checked))
        return replace(data, inputs=train[None], validation_inputs=validation)
    if plan.device == "cpu":
        return replace(data, inputs=store.pictures[timed].transpose(0, 2, 3, 1).copy()[None])
    return data


def within_budget(plan: SearchPlan, stores: dict[int, PictureStore], split: Split) -> SearchPlan:
    """Return the plan with as many epochs as fit in its budget, at least one, where it leaves them open."""
    if plan.fitted_s is None:
        return plan
    seconds = epoch_seconds(plan, stores, split)
    epochs = max(1, int(BUDGET_SHARE * plan.fitted_s / seconds))
    return with_epochs(plan, epochs)
