"""How long an epoch of a plan's first network takes on this machine, from some of its steps."""

import time

import torch

from hkbench.data.augment import sample_views
from hkbench.data.splits import Split
from hkbench.data.store import PictureStore
from hkbench.models.build import build
from hkbench.search.plan import SearchPlan, with_epochs
from hkbench.training.ahead import torch_threads
from hkbench.training.feed import TrainingData
from hkbench.training.loop import Training

TIMED_PICTURES = 384
BUDGET_SHARE = 0.95
"""The rest of a training's budget is for what the timed steps don't show, such as a checkpoint each epoch."""


def epoch_seconds(plan: SearchPlan, stores: dict[int, PictureStore], split: Split) -> float:
    """Time some steps, and some of the evaluation, and return what a whole epoch takes."""
    settings = plan.space.first_settings()
    store, timed, checked = stores[settings.image_size], split.train[:TIMED_PICTURES], split.validation
    data = TrainingData(
        pictures=store.pictures,
        labels=store.labels,
        train=timed,
        validation=checked[:TIMED_PICTURES],
        views=sample_views(1, len(split.train), plan.seed, plan.space.augmentation).parameters,
    )
    network = build(settings.architecture, classes=len(store.classes), unfreeze=settings.unfreeze, seed=0)
    hard = settings.model_copy(update={"loss": "hard"})  # the teacher's logits aren't there yet
    training = Training(network, data, hard.training(epochs=3, seed=0), torch.device(plan.device))
    with torch_threads(plan.threads):
        training.train_epoch()  # the first steps prepare
        begun = time.perf_counter()
        training.train_epoch()
        trained = time.perf_counter()
        training.evaluate()
        evaluated = time.perf_counter()
    steps = (trained - begun) / len(timed) * len(split.train)
    return steps + (evaluated - trained) / len(data.validation) * len(checked)


def within_budget(plan: SearchPlan, stores: dict[int, PictureStore], split: Split) -> SearchPlan:
    """Return the plan with as many epochs as fit in its budget, at least one, where it leaves them open."""
    if plan.fitted_s is None:
        return plan
    seconds = epoch_seconds(plan, stores, split)
    epochs = max(1, int(BUDGET_SHARE * plan.fitted_s / seconds))
    return with_epochs(plan, epochs)
