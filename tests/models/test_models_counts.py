import pytest
import timm
import torch
import torchvision
from torch import nn

from hkbench.models.classifier import Auxiliary, Classifier, Parts, global_pool, parameter_count
from hkbench.models.counts import folded_parameters, fused, macs, weight_bytes
from hkbench.models.household import HouseholdConfig, household

REP = HouseholdConfig(block="rep", squeeze_excitation=True)


def small_net() -> nn.Sequential:
    """8×8 maps of 4 channels, depthwise to 4×4, one linear layer to 5 classes."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4),
        nn.BatchNorm2d(4),
        global_pool(),
        nn.Linear(4, 5),
    )


def member(config: HouseholdConfig) -> Classifier:
    return Classifier("household", 7, household(config, 7))


def trained(network: nn.Module) -> nn.Module:
    """Give batch-norms statistics and scales of their own, as after training."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(8, 3, 32, 32))
    return network.eval()


def test_counts_of_a_net_that_is_counted_by_hand():
    network = small_net()
    weights = 4 * 3 * 9 + 4 * 9 + 4 * 5
    biases = 4 + 4 + 5
    assert folded_parameters(network) == weights + biases
    assert weight_bytes(network, "fp32") == 4 * (weights + biases)
    assert weight_bytes(network, "int8") == weights + 2 * biases + 2 * (4 + 4 + 5)
    assert macs(network, 8) == 4 * 3 * 9 * 8 * 8 + 4 * 9 * 4 * 4 + 4 * 5


def test_a_norm_without_a_layer_before_it_keeps_its_parameters():
    before = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 1, bias=False))
    assert folded_parameters(before) == 2 * 3 + 12
    assert weight_bytes(before, "int8") == 2 * 2 * 3 + 12 + 2 * 4


def test_a_norm_after_a_row_of_layers_belongs_to_the_last_of_them():
    stem = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)), nn.BatchNorm2d(4))
    assert folded_parameters(stem) == 16 + 20


def test_densenet_folds_only_what_follows_a_convolution():
    with torch.device("meta"):
        network = torchvision.models.densenet121()
    # The stem's norm and the second of each dense layer; all others read a concatenation.
    folded = 64 + 58 * 128
    assert folded_parameters(network) == 7_978_856 - folded


@pytest.mark.parametrize(
    ("name", "size", "millions"),
    [
        ("mobilenetv2_100", 224, 300.8),
        ("mobilenetv3_small_100", 224, 56.5),
        ("vit_tiny_patch16_224", 224, 1253.7),
    ],
)
def test_macs_are_those_of_the_literature(name: str, size: int, millions: float):
    with torch.device("meta"):
        network = timm.create_model(name)
    assert macs(network, size) / 1e6 == pytest.approx(millions, abs=0.1)


def test_torch_attention_is_counted():
    with torch.device("meta"):
        network = torchvision.models.vit_b_16().eval().requires_grad_(False)
    assert macs(network, 224) / 1e9 == pytest.approx(17.56, abs=0.01)  # as torchvision states


@pytest.mark.parametrize(
    "config", [REP, HouseholdConfig(block="rep", depth=2, kernel_size=5), HouseholdConfig()]
)
def test_fused_network_gives_the_same_logits(config: HouseholdConfig):
    torch.manual_seed(0)
    network = trained(member(config))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    pictures = torch.rand(4, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(fused(network)(pictures), network(pictures), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_branches_count_as_the_one_convolution_that_they_become():
    network, merged = member(REP), fused(member(REP))
    stem, hidden = 16, 96  # each of their channels has a scale and a shift still, and no bias
    assert folded_parameters(network) == parameter_count(merged) - stem - hidden
    assert folded_parameters(merged) == folded_parameters(network)
    assert macs(network, 32) == macs(merged, 32)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in merged.body[1].modules())


def test_the_auxiliary_head_is_not_exported():
    def built(auxiliary: Auxiliary | None) -> Classifier:
        body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        head = nn.Sequential(global_pool(), nn.Linear(4, 2))
        parts = Parts(body=body, head=head, channels=4, stages=(("0", "1"),), auxiliary=auxiliary)
        return Classifier("two heads", 2, parts)

    second = Auxiliary(
        head=nn.Sequential(global_pool(), nn.Linear(4, 2)), after=1, weight=0.4, smallest_image_size=8
    )
    network = built(second)
    assert folded_parameters(network) == folded_parameters(built(None))
    assert network.auxiliary is not None


@pytest.mark.parametrize("block", ["rep", "ghost", "inverted"])
def test_shapes_are_enough(block: str):
    config = HouseholdConfig(block=block, squeeze_excitation=True)
    with torch.device("meta"):
        shapes = member(config)
    network = member(config)
    assert folded_parameters(shapes) == folded_parameters(network)
    assert weight_bytes(shapes, "int8") == weight_bytes(network, "int8")
    assert macs(shapes, 45) == macs(network, 45)
    assert next(fused(shapes).parameters()).is_meta


def test_counting_changes_nothing():
    network = member(REP).freeze(2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    learning = [parameter.requires_grad for parameter in network.parameters()]
    macs(network, 32)
    folded_parameters(network)
    weight_bytes(network, "int8")
    assert network.training
    assert [parameter.requires_grad for parameter in network.parameters()] == learning
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
