"""Optimisers and the schedule by what they do to a network."""

import pytest
import torch
from torch import nn

from hkbench.errors import UsageError
from hkbench.training.optimizers import OPTIMIZERS, OptimizerConfig, build_optimizer, cosine_factor


def network():
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_norms_and_biases_get_no_weight_decay(name):
    optimizer = build_optimizer(network(), OptimizerConfig(name=name, weight_decay=0.1))
    decay = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {2: 0.1, 1: 0.0}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_a_loss(name):
    torch.manual_seed(0)
    found, inputs = network(), torch.randn(16, 4)
    optimizer = build_optimizer(found, OptimizerConfig(name=name, learning_rate=0.05))
    losses = []
    for _ in range(20):
        loss = found(inputs).square().mean()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0] * 0.9


def test_the_schedule_warms_up_and_falls_to_nothing():
    factors = [cosine_factor(step, 100, 10) for step in range(101)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == 1
    assert factors[100] == pytest.approx(0)
    assert factors[10:] == sorted(factors[10:], reverse=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (OptimizerConfig(name="sdg"), "Did you mean 'sgd'"),
        (OptimizerConfig(learning_rate=0), "learning_rate above 0"),
        (OptimizerConfig(momentum=1), r"momentum in \[0, 1\)"),
    ],
)
def test_what_is_out_of_range_is_refused(config, message):
    with pytest.raises(UsageError, match=message):
        build_optimizer(network(), config)
