"""Beyer et al. (arXiv 2106.05237): a student learns more from a teacher that sees the very same view."""

import numpy as np
import pytest
import torch

from hkbench.data.augment import ViewPolicy, sample_views
from hkbench.data.build import build_stores
from hkbench.data.sources import open_source
from hkbench.data.splits import load_split, shortened
from hkbench.models.build import build
from hkbench.training.ahead import open_ahead
from hkbench.training.feed import TrainingData
from hkbench.training.logits import TeacherPass
from hkbench.training.loop import Training, TrainingConfig
from hkbench.training.losses import loss_config
from hkbench.training.optimizers import OptimizerConfig
from hkbench.training.rendered import rendered_views
from hkbench.training.teacher import TeacherRecipe, find_teacher

CPU = torch.device("cpu")
STRONG = ViewPolicy(min_scale=0.2, rotation_deg=30, brightness=0.4, contrast=0.4, saturation=0.4)
CONFIG = TrainingConfig(
    epochs=6,
    optimizer=OptimizerConfig(name="adamw", learning_rate=0.003),
    loss=loss_config("kd", alpha=0.0, temperature=2.0),
    mixed_precision=False,
)


@pytest.mark.slow
def test_logits_of_the_same_view_teach_more_than_those_of_another_view_of_the_same_picture():
    stores = build_stores(open_source("goods69"), (48, 96))
    store = stores[48]
    whole = load_split(store, "random")
    split = shortened(whole, 1500)
    teacher = find_teacher(TeacherRecipe(), store.fingerprint, whole.hash)
    views = sample_views(2, len(split.train), 0, STRONG)
    logits = open_ahead(TeacherPass([teacher], stores, split, CPU).logits(views), 2)
    inputs = open_ahead(rendered_views([store], split, views)[48], 2)

    def trained(teacher_logits):
        data = TrainingData(
            pictures=store.pictures,
            labels=store.labels,
            train=split.train,
            validation=split.validation,
            views=views.parameters,
            teacher_logits=teacher_logits,
            inputs=inputs,
        )
        network = build("efficientnet_lite0_cut3", classes=69, weights="imagenet", seed=0)
        *_, last = Training(network, data, CONFIG, CPU).epochs()
        return last.metrics

    consistent, inconsistent = trained(logits), trained(np.ascontiguousarray(logits[::-1]))
    assert consistent["accuracy"] > inconsistent["accuracy"]
    assert consistent["log_loss"] < inconsistent["log_loss"]
