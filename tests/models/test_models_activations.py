import inspect

import pytest
import timm
import torch
import torchvision
from timm.layers import activations as timm_activations
from timm.layers import activations_me as timm_lean_activations
from torch import Tensor, nn

from hkbench.errors import UsageError
from hkbench.models.activations import (
    ACTIVATIONS,
    KINDS,
    activation_factory,
    activation_weights,
    activations_in,
    swap_activations,
)

# How many activations each has, gates left out; SqueezeNet has two for each expansion.
NETWORKS = {
    "timm/mobilenetv3_small_050": 33,
    "timm/efficientnet_lite0": 33,
    "torchvision/mobilenet_v3_small": 33,
    "torchvision/squeezenet1_1": 26,
    "torchvision/densenet121": 120,
    "torchvision/convnext_tiny": 18,
    "timm/convnext_atto": 12,
}


def made(name: str) -> nn.Module:
    source, _, model = name.partition("/")
    if source == "timm":
        network: nn.Module = timm.create_model(model, num_classes=4)
    else:
        network = torchvision.models.get_model(model, num_classes=4)
    return network


def kinds_of(network: nn.Module) -> list[type[nn.Module]]:
    return [type(module) for module in network.modules() if isinstance(module, KINDS)]


@pytest.mark.parametrize("name", NETWORKS)
def test_all_activations_of_a_network_are_swapped_and_it_still_learns(name: str):
    network = made(name)
    gates = sum(isinstance(module, nn.Sigmoid | nn.Hardsigmoid) for module in network.modules())
    swapped = swap_activations(network, "elu")
    assert swapped == NETWORKS[name]
    kinds = kinds_of(network)
    assert kinds.count(nn.ELU) == swapped
    assert len(kinds) == swapped + gates
    network(torch.rand(2, 3, 64, 64)).sum().backward()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_fits_in_every_place(name: str):
    network = made("timm/mobilenetv3_small_050")
    assert swap_activations(network, name) == swap_activations(network, name)
    logits = network(torch.rand(2, 3, 32, 32))
    logits.sum().backward()
    assert torch.isfinite(logits).all()


def test_squeeze_excitation_still_weighs_between_0_and_1():
    network = made("torchvision/mobilenet_v3_small")
    swap_activations(network, "selu")
    seen: list[Tensor] = []
    gates = [module for name, module in network.named_modules() if name.endswith("scale_activation")]
    for gate in gates:
        gate.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    network(torch.rand(2, 3, 64, 64))
    assert len(seen) == len(gates) > 0
    assert all(weights.min() >= 0 and weights.max() <= 1 for weights in seen)


def test_learned_activations_share_nothing():
    network = nn.Sequential(nn.ReLU(), nn.ReLU())
    assert swap_activations(network, "prelu") == 2
    assert len(list(network.parameters())) == 2


def test_nothing_to_swap_is_told_and_an_empty_place_stays_empty():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Identity(), nn.Softmax(dim=1))
    assert swap_activations(network, "gelu") == 0
    assert isinstance(network[1], nn.Identity)


def test_an_input_that_others_read_is_not_overwritten():
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.SiLU()

        def forward(self, features: Tensor) -> Tensor:
            return self.act(features) + features

    network = Gated()
    swap_activations(network, "relu")
    assert network(torch.tensor([-1.0, 2.0])).tolist() == [-1.0, 4.0]


def test_swapping_keeps_device_type_and_mode():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).to(device="meta", dtype=torch.float64).eval()
    swap_activations(network, "prelu")
    weight = network[1].weight
    assert (weight.device.type, weight.dtype, network[1].training) == ("meta", torch.float64, False)


def test_timm_has_no_activation_that_would_be_missed():
    for module in (timm_activations, timm_lean_activations):
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, nn.Module) and kind.__module__ == module.__name__:
                assert issubclass(kind, KINDS), name


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("torchvision/squeezenet1_1", {"relu"}),
        ("timm/efficientnet_lite0", {"relu6"}),
        ("timm/mobilenetv3_small_050", {"relu", "hardswish"}),
        ("timm/efficientnet_b0", {"silu"}),
        ("timm/convnext_atto", {"gelu"}),
    ],
)
def test_activations_of_a_network_go_by_our_names(name: str, own: set[str]):
    with torch.device("meta"):
        assert activations_in(made(name)) == own


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_found_by_its_name(name: str):
    network = nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU()))
    swap_activations(network, name)
    assert activations_in(network) == {name}


def test_an_activation_that_no_space_can_name_goes_by_its_class():
    assert activations_in(nn.Sequential(nn.Softplus(), nn.Conv2d(3, 4, 1))) == {"Softplus"}


def test_keys_of_what_activations_learn_are_found():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU(), nn.Sequential(nn.ReLU(), nn.PReLU()))
    assert activation_weights(network) == {"1.weight", "2.1.weight"}


def test_unknown_activation_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'hardswish'"):
        activation_factory("hard_swish")
    with pytest.raises(UsageError, match="Did you mean 'silu'"):
        swap_activations(nn.Sequential(nn.ReLU()), "silo")
