"""Optimisers by what they do to a network: which rates and decays its parameters get, and what is refused."""

from dataclasses import replace

import pytest
import torch
from small_network import STAGES, small_classifier
from torch import nn

from hkbench.errors import UsageError
from hkbench.training.optimizers import (
    LARGEST_RATE,
    OPTIMIZERS,
    OptimizerConfig,
    build_optimizer,
    check_optimizer,
    peak_rate,
)

NAN = float("nan")


def plain_network():
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def rates(network, **changes):
    """Return the learning rate of each parameter, by name."""
    optimizer = build_optimizer(network, OptimizerConfig(learning_rate=0.1, **changes))
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {name: rate_of[id(p)] for name, p in network.named_parameters() if id(p) in rate_of}


def test_without_rates_of_their_own_all_stages_share_two_groups():
    network = small_classifier()
    groups = build_optimizer(network, OptimizerConfig()).param_groups
    assert [group["weight_decay"] for group in groups] == [1e-4, 0.0]
    assert {group["lr"] for group in groups} == {0.05}
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_the_body_learns_at_its_own_multiple_of_the_heads_rate():
    found = rates(small_classifier(auxiliary_weight=0.3), body_rate=0.2)
    assert {name: pytest.approx(0.02 if name.startswith("body.") else 0.1) for name in found} == found
    assert "auxiliary.2.weight" in found


def test_a_stage_learns_slower_the_nearer_it_is_to_the_picture():
    found = rates(small_classifier(), body_rate=2.0, layer_decay=0.5)
    for stage in range(STAGES):
        of_stage = [rate for name, rate in found.items() if name.startswith(f"body.{stage}.")]
        assert of_stage == pytest.approx([0.1 * 2.0 * 0.5 ** (STAGES - stage)] * 4)
    assert {rate for name, rate in found.items() if name.startswith("head.")} == {0.1}


def test_the_first_group_is_the_heads_whatever_rates_the_body_has():
    groups = build_optimizer(
        small_classifier(), OptimizerConfig(learning_rate=0.1, body_rate=0.5, layer_decay=0.7)
    ).param_groups
    assert groups[0]["lr"] == 0.1
    assert len(groups) == 2 * (1 + STAGES)


def test_frozen_stages_are_in_no_group():
    found = rates(small_classifier(frozen=2), layer_decay=0.5)
    assert {name.split(".")[1] for name in found if name.startswith("body.")} == {"2"}


def test_a_plain_network_is_all_head():
    assert set(rates(plain_network(), body_rate=0.1, layer_decay=0.5).values()) == {0.1}


def test_a_body_rate_of_nothing_leaves_the_body_as_it_is():
    network = small_classifier()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = build_optimizer(network, OptimizerConfig(body_rate=0.0))
    network(torch.rand(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert {name.split(".")[0] for name in moved} == {"head"}


def test_the_default_rate_is_the_optimizers_own():
    assert peak_rate(OptimizerConfig(name="sgd")) == 0.05
    assert peak_rate(OptimizerConfig(name="adamw")) == OPTIMIZERS["adamw"].learning_rate
    assert peak_rate(OptimizerConfig(name="adamw", learning_rate=0.7)) == 0.7
    optimizer = build_optimizer(plain_network(), OptimizerConfig(name="adadelta"))
    assert optimizer.param_groups[0]["lr"] == OPTIMIZERS["adadelta"].learning_rate


def test_sgd_is_nesterovs_momentum_is_polyaks_and_plain_has_none():
    """Two steps on the gradient 1, at rate 1 and momentum 0.5."""

    def moved(name):
        weight = nn.Parameter(torch.zeros(1, 1))
        network = nn.Module()
        network.weight = weight
        config = OptimizerConfig(name=name, learning_rate=1.0, momentum=0.5, weight_decay=0.0)
        optimizer = build_optimizer(network, config)
        for _ in range(2):
            weight.grad = torch.ones(1, 1)
            optimizer.step()
        return -weight.item()

    assert moved("plain_sgd") == 2
    assert moved("momentum") == 1 + 1.5
    assert moved("sgd") == 1.5 + 1.75


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_momentum_matters_to_all_that_have_one(name):
    def weights(momentum):
        torch.manual_seed(0)
        network = plain_network()
        optimizer = build_optimizer(network, OptimizerConfig(name=name, momentum=momentum))
        for seed in range(3):
            inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
            network(inputs).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return network[0].weight

    assert torch.equal(weights(0.9), weights(0.5)) == (name in ("plain_sgd", "adagrad", "adadelta"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "sdg"}, "no optimizer 'sdg'. Did you mean 'sgd'"),
        ({"learning_rate": 0.0}, "'sgd' needs learning_rate above 0 and at most 1e\\+06, found 0"),
        ({"learning_rate": 1e30}, "learning_rate above 0 and at most 1e\\+06, found 1e\\+30"),
        ({"learning_rate": NAN}, "found nan"),
        ({"weight_decay": -1.0}, "weight_decay finite, at least 0, found -1"),
        ({"weight_decay": NAN}, "weight_decay .* found nan"),
        ({"momentum": 1.0}, r"momentum in \[0, 1\), found 1"),
        ({"body_rate": -0.1}, r"body_rate in \[0, 10\], found -0.1"),
        ({"body_rate": 11.0}, "found 11"),
        ({"layer_decay": 0.0}, r"layer_decay in \(0, 1\], found 0"),
        ({"layer_decay": 1.1}, "found 1.1"),
    ],
)
def test_what_is_out_of_range_is_refused(changes, message):
    config = replace(OptimizerConfig(), **changes)
    with pytest.raises(UsageError, match=message):
        check_optimizer(config)
    with pytest.raises(UsageError, match=message):
        build_optimizer(plain_network(), config)


def test_the_ends_of_the_ranges_are_fine():
    for changes in (
        {"learning_rate": LARGEST_RATE, "weight_decay": 0.0, "momentum": 0.0},
        {"body_rate": 0.0, "layer_decay": 1.0},
        {"body_rate": 10.0},
    ):
        check_optimizer(OptimizerConfig(**changes))
