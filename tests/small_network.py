"""A network of three stages and the pictures it learns: shared by tests of optimisers and of transfer."""

import numpy as np
import torch
from torch import nn

from hkbench.data.augment import ViewPolicy, sample_views
from hkbench.models.classifier import Auxiliary, Classifier, Parts, pooled_head
from hkbench.training.feed import TrainingData

CLASSES = 3
STAGES = 3
WIDTH = 8
SIZE = 32


def small_classifier(*, seed=0, frozen=0, auxiliary_weight=None, dropout=0.0):
    """Return three convolutions with batch norm and PReLU, each a stage, and maybe an auxiliary head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = (3, *[WIDTH] * STAGES)
        blocks = [_block(widths[at], widths[at + 1]) for at in range(STAGES)]
        auxiliary = Auxiliary(
            head=pooled_head(WIDTH, CLASSES, dropout=0.0),
            after=2,
            weight=auxiliary_weight or 0.0,
            smallest_image_size=SIZE,
        )
        parts = Parts(
            body=nn.Sequential(*blocks),
            head=pooled_head(WIDTH, CLASSES, dropout=dropout),
            channels=WIDTH,
            stages=tuple((str(at),) for at in range(STAGES)),
            auxiliary=auxiliary if auxiliary_weight is not None else None,
        )
    return Classifier("small", CLASSES, parts).freeze(frozen)


def _block(before, after):
    convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.PReLU(after))


def bright_data(count=96, train=72):
    """Return noise in which one channel, the class, is brighter: easy enough for a few steps."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % CLASSES
    pictures = rng.integers(0, 90, (count, 3, SIZE, SIZE), dtype=np.uint8)
    pictures[np.arange(count), labels] += 150
    return TrainingData(
        pictures=pictures,
        labels=labels,
        train=np.arange(train),
        validation=np.arange(train, count),
        views=sample_views(2, train, 0, ViewPolicy()).parameters,
    )
