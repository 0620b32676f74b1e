"""Networks changed from how they were published: heads, cuts, activations, frozen stages."""

import pytest
import torch
from torch import nn

from hkbench.errors import UsageError
from hkbench.models.architecture import Architecture
from hkbench.models.build import build, frozen_stages, sketch
from hkbench.models.classifier import parameter_count
from hkbench.models.household import SMALL
from hkbench.training.checkpoint import load_checkpoint

STAGES = (("stem",), ("blocks.0",), ("blocks.1", "pool"), ("blocks.2",))


def widths(network):
    return [layer.out_features for layer in network.head.modules() if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_a_head_of_fully_connected_layers_replaces_the_networks_own(layers):
    changes = {"head_layers": layers, "head_width": 64, "head_dropout": 0.4}
    network = build(Architecture(model="squeezenet1_1", **changes), classes=5)
    assert widths(network) == [64] * layers + [5]
    assert {layer.p for layer in network.head.modules() if isinstance(layer, nn.Dropout)} == {0.4}
    assert network(torch.rand(2, 3, 64, 64)).shape == (2, 5)


@pytest.mark.parametrize("model", ["efficientnet_lite0", "squeezenet1_1", "densenet121", "timm/resnet18"])
def test_a_cut_is_smaller_than_the_whole_and_keeps_its_first_layers(model):
    whole = build(model, classes=5, seed=0)
    cut = build(Architecture(model=model, cut=2), classes=5, seed=0)
    assert parameter_count(cut) < parameter_count(whole)
    assert cut(torch.rand(2, 3, 64, 64)).shape == (2, 5)


def test_cuts_to_the_same_stages_by_setting_and_by_name_are_one_network():
    named = sketch(Architecture(model="efficientnet_lite0_cut3"))
    by_setting = sketch(Architecture(model="efficientnet_lite0", cut=4))
    assert parameter_count(named) == parameter_count(by_setting)


def test_an_activation_is_swapped_everywhere_but_after_the_logits():
    network = build(Architecture(model="squeezenet1_1", activation="sigmoid"), classes=5)
    assert not any(isinstance(module, nn.ReLU) for module in network.body.modules())
    assert any(isinstance(module, nn.Sigmoid) for module in network.body.modules())
    assert isinstance(network.head[2], nn.ReLU)


def test_another_activation_keeps_pretrained_weights():
    architecture = Architecture(model="efficientnet_lite0_cut2", activation="prelu")
    plain = build("efficientnet_lite0_cut2", classes=5, weights="imagenet").body.state_dict()
    swapped = build(architecture, classes=5, weights="imagenet").body.state_dict()
    assert all(torch.equal(tensor, swapped[key]) for key, tensor in plain.items())
    assert any("act" in key for key in swapped.keys() - plain.keys())


def test_a_state_with_an_activations_own_weights_is_loaded_again(tmp_path):
    architecture = Architecture(model="household_s", activation="prelu")
    network = build(architecture, classes=5, seed=0)
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    again = build(architecture, classes=5, seed=1, weights=str(path))
    assert load_checkpoint(path).keys() == again.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in network.state_dict().items())


def test_options_make_a_member_of_the_family():
    plain, wide = (build(Architecture(model="household", width=width), classes=5) for width in (1.0, 2.0))
    assert parameter_count(wide) > 2 * parameter_count(plain)
    assert parameter_count(plain) == parameter_count(build("household_s", classes=5))
    assert Architecture(model="household", width=2, block="fire").label == "household block fire width 2"
    assert SMALL.block == "inverted"


@pytest.mark.parametrize(
    ("unfreeze", "frozen"),
    [("all", 0), ("none", 4), ("last-stage", 3), ("last-1", 3), ("last-4", 0), ("blocks.1", 2), ("pool", 2)],
)
def test_unfreeze_says_how_many_stages_stay_frozen(unfreeze, frozen):
    assert frozen_stages(unfreeze, STAGES) == frozen


@pytest.mark.parametrize("unfreeze", ["last-5", "last-0", "blocks.7", "everything", "last-"])
def test_stages_that_are_not_there_are_refused(unfreeze):
    with pytest.raises(UsageError, match=unfreeze):
        frozen_stages(unfreeze, STAGES)


def test_the_auxiliary_head_is_left_out_of_small_pictures():
    small, large = (sketch(Architecture(model="inception_v3", image_size=size)) for size in (75, 299))
    assert small.auxiliary is None
    assert large.auxiliary is not None
    assert parameter_count(small) == parameter_count(large)


def test_a_sketch_takes_no_memory():
    assert all(tensor.is_meta for tensor in sketch(Architecture(model="densenet201")).parameters())
