"""Every optimiser of the registry: it learns, resumes, leaves alone what it should, says its rate."""

import copy

import pytest
import torch
from small_network import bright_data, small_classifier
from torch.nn.functional import cross_entropy

from hkbench.errors import UsageError
from hkbench.spaces.file import load_space
from hkbench.spaces.settings import settings_of
from hkbench.training.checkpoint import load_checkpoint, save_checkpoint
from hkbench.training.loop import DivergedError, Training, TrainingConfig
from hkbench.training.optimizers import (
    LARGEST_RATE,
    OPTIMIZERS,
    OptimizerConfig,
    build_optimizer,
    check_optimizer,
)
from hkbench.training.schedules import SCHEDULES

CPU = torch.device("cpu")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(scope="module")
def data():
    return bright_data()


@pytest.fixture(params=OPTIMIZERS, name="name")
def _name(request):
    return request.param


def training(data, name, *, network=None, **changes):
    given = {"mixed_precision": False, "epochs": 3, "batch_size": 8, "seed": 1, **changes}
    config = TrainingConfig(optimizer=OptimizerConfig(name=name), **given)
    return Training(network or small_classifier(dropout=0.1), data, config, CPU)


def with_gradients(network, *, zero=False, device="cpu"):
    """Give every parameter a gradient: that of one batch, or zeros."""
    pictures = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
    loss = cross_entropy(network(pictures), torch.arange(12, device=device) % 3)
    loss.backward()
    if zero:
        for parameter in network.parameters():
            parameter.grad.zero_()
    return loss


def copies(network):
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def test_the_registry_says_where_it_comes_from_and_which_rates_suit_it(name):
    entry = OPTIMIZERS[name]
    low, high = entry.learning_rates
    assert 0 < low <= entry.learning_rate <= high <= LARGEST_RATE
    assert 0 < entry.weight_decays[0] < entry.weight_decays[1]
    assert entry.source
    for rate in entry.learning_rates:
        for decay in entry.weight_decays:
            check_optimizer(OptimizerConfig(name=name, learning_rate=rate, weight_decay=decay))


def test_a_search_can_use_it_and_refuses_what_it_cannot_take(name):
    settings = settings_of({"model": "household_s", "loss": "hard", "optimizer": name})
    assert settings.optimizer_config == OptimizerConfig(
        name=name, learning_rate=OPTIMIZERS[name].learning_rate
    )
    with pytest.raises(UsageError, match=f"'{name}' needs learning_rate"):
        settings_of({"model": "household_s", "loss": "hard", "optimizer": name, "learning_rate": -1})


def test_the_shipped_space_searches_it_in_its_own_ranges_and_starts_from_its_default(name):
    space, entry = load_space("optimizers"), OPTIMIZERS[name]
    ranges = {"learning_rate": entry.learning_rates, "weight_decay": entry.weight_decays}
    for setting, (low, high) in ranges.items():
        parameter = space.parameters[f"{name}_{setting}"]
        assert (parameter.low, parameter.high) == (low, high)
        assert parameter.when == {"optimizer": name}
    starts = [space.settings(params) for _, params in space.seed_points() if params["optimizer"] == name]
    assert {start.learning_rate for start in starts} == {entry.learning_rate}
    assert [start.seed for start in starts] == [0, 1, 2]


@pytest.mark.parametrize("mixed_precision", [False, True])
def test_at_its_own_rate_it_lowers_the_loss_in_a_few_steps(data, name, mixed_precision):
    epochs = list(training(data, name, epochs=6, mixed_precision=mixed_precision).epochs())
    assert epochs[-1].train_loss < 0.8 * epochs[0].train_loss
    assert epochs[-1].metrics["accuracy"] > 0.6


def test_weight_decay_shrinks_matrices_and_never_touches_norms_biases_and_slopes(name):
    network = small_classifier()
    optimizer = build_optimizer(network, OptimizerConfig(name=name, weight_decay=0.1))
    before = copies(network)
    with_gradients(network, zero=True)
    optimizer.step()
    for parameter_name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            assert parameter.norm() < before[parameter_name].norm()
        else:
            assert torch.equal(parameter, before[parameter_name])


@pytest.mark.parametrize("mixed_precision", [False, True])
def test_a_resumed_training_equals_an_unbroken_one_bit_for_bit(data, tmp_path, name, mixed_precision):
    whole = training(data, name, mixed_precision=mixed_precision)
    expected = [(row.epoch, row.train_loss, row.metrics) for row in whole.epochs()]
    first = training(data, name, mixed_precision=mixed_precision)
    next(first.epochs())
    save_checkpoint(tmp_path / "c.pt", first.state_dict())
    second = training(
        data, name, network=small_classifier(seed=9, dropout=0.1), mixed_precision=mixed_precision
    )
    second.load_state_dict(load_checkpoint(tmp_path / "c.pt"))
    assert [(row.epoch, row.train_loss, row.metrics) for row in second.epochs()] == expected[1:]
    for one, other in zip(whole.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_it_steps_at_what_the_schedule_says(data, name, schedule):
    run = training(data, name, schedule=schedule)
    for epoch in run.epochs():
        factor = SCHEDULES[schedule](9 * epoch.epoch, 27, 4)  # nine steps an epoch, half an epoch to warm up
        assert epoch.learning_rate == pytest.approx(OPTIMIZERS[name].learning_rate * factor)


def test_a_loss_that_is_no_number_names_its_step_and_rate(data, name):
    network = small_classifier()
    torch.nn.init.constant_(network.head[-1].bias, float("nan"))
    rate = OPTIMIZERS[name].learning_rate / 4  # the first of four steps to warm up
    with pytest.raises(DivergedError, match=rf"nan at step 1 of epoch 1, at learning rate {rate:.3g}\."):
        list(training(data, name, network=network).epochs())


def test_parameters_without_a_gradient_stay_and_may_join_later(name):
    network = small_classifier()
    config = OptimizerConfig(name=name, weight_decay=0.1, layer_decay=0.9)  # so that whole groups have none
    optimizer = build_optimizer(network, config)
    before = copies(network)
    for resting in (2, 0):
        network.rest(resting)
        with_gradients(network)
        optimizer.step()
        optimizer.zero_grad()
        for parameter_name, parameter in network.named_parameters():
            moved = not torch.equal(parameter, before[parameter_name])
            assert moved == (network.stage_of(parameter_name) >= resting), parameter_name


def test_a_scaled_loss_takes_the_same_step_and_an_overflow_takes_none(name):
    plain, scaled = small_classifier(), small_classifier()
    optimizers = [build_optimizer(each, OptimizerConfig(name=name)) for each in (plain, scaled)]
    with_gradients(plain)
    optimizers[0].step()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with_gradients(scaled)
    for parameter in scaled.parameters():
        parameter.grad.mul_(scaler.scale(torch.ones(())))  # a power of two: nothing is rounded
    scaler.unscale_(optimizers[1])
    scaler.step(optimizers[1])
    scaler.update()
    assert all(
        torch.equal(one, other) for one, other in zip(plain.parameters(), scaled.parameters(), strict=True)
    )

    before = copies(scaled)
    scaled.head[-1].bias.grad.fill_(float("inf"))
    scaler.unscale_(optimizers[1])
    scaler.step(optimizers[1])
    scaler.update()
    assert all(torch.equal(parameter, before[key]) for key, parameter in scaled.named_parameters())


@pytest.mark.parametrize("device", DEVICES)
def test_its_state_is_on_the_parameters_device_and_at_most_twice_their_size(name, device):
    network = small_classifier().to(device)
    optimizer = build_optimizer(network, OptimizerConfig(name=name))
    with_gradients(network, device=device)
    optimizer.step()
    resumed = build_optimizer(network, OptimizerConfig(name=name))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each in (optimizer, resumed):
        sizes = {}
        for parameter, state in each.state.items():
            arrays = [value for value in state.values() if torch.is_tensor(value) and value.ndim]
            assert {array.device for array in arrays} <= {parameter.device}
            sizes[parameter] = sum(array.numel() for array in arrays)
        assert sum(sizes.values()) <= 2 * sum(parameter.numel() for parameter in network.parameters())
