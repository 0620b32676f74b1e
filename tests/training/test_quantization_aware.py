"""Rounded training: it rounds while it trains, gradients pass, and plain weights come back."""

import numpy as np
import pytest
import torch
from small_network import bright_data, small_classifier
from torch import nn

from hkbench.models.architecture import Architecture
from hkbench.models.build import build
from hkbench.models.counts import fused
from hkbench.training.loop import Training, TrainingConfig
from hkbench.training.optimizers import OptimizerConfig
from hkbench.training.quantization_aware import RoundedTraining

CPU = torch.device("cpu")
LEVELS = 255
BRANCHED = Architecture(model="household", image_size=32, block="rep", width=0.25)
"""Its branches are merged for inference."""


def noise(count=8, size=32):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def layers_of(network):
    return [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


def train(network, epochs=1):
    config = TrainingConfig(
        epochs=epochs,
        batch_size=12,
        optimizer=OptimizerConfig(name="adamw", learning_rate=3e-3),
        mixed_precision=False,
    )
    return list(Training(network, bright_data(), config, CPU).epochs())


@pytest.mark.parametrize("architecture", [None, BRANCHED], ids=["small", "with branches"])
def test_plain_weights_come_back_under_the_fused_network_s_names(architecture):
    network = small_classifier() if architecture is None else build(architecture, classes=3, seed=0)
    expected = fused(network).state_dict()
    rounded = RoundedTraining(network)
    rounded.network(noise())
    plain = rounded.plain()
    found = plain.state_dict()
    assert sorted(found) == sorted(expected)
    assert {name: tensor.dtype for name, tensor in found.items()} == {
        name: tensor.dtype for name, tensor in expected.items()
    }
    weights = [name for name in found if "running" not in name and "num_batches" not in name]
    for name in weights:  # nothing was trained yet
        torch.testing.assert_close(found[name], expected[name])
    assert not plain.training
    assert all(isinstance(layer.weight, nn.Parameter) for layer in layers_of(plain))
    assert not any(layer._forward_pre_hooks for layer in layers_of(plain))
    plain.load_state_dict(expected)


def test_weights_that_come_back_are_not_on_the_grid():
    rounded = RoundedTraining(small_classifier())
    train(rounded.network)
    for layer in layers_of(rounded.plain()):
        channel = layer.weight[0].detach().flatten()
        steps = channel / (channel.abs().max() / 127)
        assert (steps - steps.round()).abs().max() > 0.01


def test_rounding_is_active_while_it_trains():
    network = small_classifier()
    rounded = RoundedTraining(network)
    plain = fused(network).train()
    assert rounded.network.training
    with torch.no_grad():
        found, expected = rounded.network(noise()), plain(noise())
    difference = (found - expected).abs().max()
    assert 0 < difference < 0.3 * (expected.max() - expected.min())
    for layer in layers_of(rounded.network):
        weights = layer.weight.detach()
        for channel in weights.flatten(1)[:3]:
            assert len(channel.unique()) <= LEVELS
            largest = channel.abs().max()
            steps = channel / (largest / 127)
            torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)


def test_what_enters_a_layer_has_at_most_256_levels():
    rounded = RoundedTraining(small_classifier())
    entered = []
    for layer in layers_of(rounded.network):
        layer.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0].detach()))
    for _ in range(3):
        rounded.network(noise())
    assert len(entered) == 3 * 4
    assert max(len(each.unique()) for each in entered) <= 256


def test_ranges_stand_still_in_eval_mode():
    """So that validation doesn't move what is trained with."""
    rounded = RoundedTraining(small_classifier())
    pictures = noise()
    rounded.network(pictures)
    rounded.network.eval()
    with torch.no_grad():
        before = rounded.network(pictures)
        rounded.network(50 * pictures)
        torch.testing.assert_close(rounded.network(pictures), before)


def test_gradients_reach_every_weight():
    rounded = RoundedTraining(small_classifier())
    pictures = noise().requires_grad_()
    nn.functional.cross_entropy(rounded.network(pictures), torch.arange(8) % 3).backward()
    for name, parameter in rounded.network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    assert pictures.grad.abs().max() > 0


def test_it_learns():
    rounded = RoundedTraining(small_classifier())
    first, *_, last = train(rounded.network, epochs=4)
    assert last.train_loss < first.train_loss
    data = bright_data()
    plain = rounded.plain()
    with torch.no_grad():
        logits = plain(torch.from_numpy(data.pictures[data.validation]).float() / 255)
    assert (logits.argmax(dim=1).numpy() == data.labels[data.validation]).mean() > 0.8


@pytest.mark.parametrize("training", [True, False])
def test_the_network_that_is_given_stays_as_it_is(training: bool):
    network = small_classifier().train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    rounded = RoundedTraining(network)
    train(rounded.network)
    rounded.plain()
    assert network.training == training
    assert list(network.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(layer._forward_pre_hooks for layer in layers_of(network))


def test_equal_seeds_give_equal_weights():
    found = []
    for _ in range(2):
        rounded = RoundedTraining(small_classifier())
        train(rounded.network)
        found.append(rounded.plain().head[2].weight.detach().numpy())
    np.testing.assert_array_equal(found[0], found[1])
