"""Networks changed from how they were published: heads, cuts, activations, frozen stages."""

import pytest
import torch
from torch import nn

from hkbench.errors import UsageError
from hkbench.models.activations import activations_in
from hkbench.models.architecture import Architecture
from hkbench.models.build import build, check, frozen_stages, left_out, sketch
from hkbench.models.classifier import parameter_count
from hkbench.models.household import SMALL, HouseholdConfig
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


@pytest.mark.parametrize("heads", [{"head_layers": 1}, {"cut": 2}])
@pytest.mark.parametrize("activation", [None, "tanh"])
def test_the_familys_activation_is_in_a_new_head_too(activation, heads):
    network = sketch(Architecture(model="household", activation=activation, **heads))
    assert activations_in(network.head) == activations_in(network.body) == {activation or "relu6"}


def test_the_familys_own_head_keeps_the_relu_after_its_logits():
    network = sketch(Architecture(model="household", activation="tanh", classifier="conv"))
    assert isinstance(network.head[2], nn.ReLU)


@pytest.mark.parametrize("model", ["torchvision/inception_v3", "torchvision/googlenet"])
def test_an_activation_that_cannot_be_swapped_is_refused_before_anything_is_built(model):
    check(Architecture(model=model, image_size=96))
    with pytest.raises(UsageError, match=r"has no activation that could be swapped for gelu\.$"):
        check(Architecture(model=model, image_size=96, activation="gelu"))


def test_a_body_that_is_one_whole_cannot_be_cut():
    with pytest.raises(UsageError, match=r"^torchvision/resnet18 can't be cut.*leave cut out.*\.$") as raised:
        check(Architecture(model="torchvision/resnet18", cut=2))
    assert "\n" not in str(raised.value)


def test_options_make_a_member_of_the_family():
    plain, wide = (build(Architecture(model="household", width=width), classes=5) for width in (1.0, 2.0))
    assert parameter_count(wide) > 2 * parameter_count(plain)
    assert parameter_count(plain) == parameter_count(build("household_s", classes=5))
    squeezed = Architecture(model="household", squeeze_excitation=True, kernel_size=5)
    assert squeezed.label == "household kernel size 5 squeeze excitation"
    assert SMALL.block == "inverted"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"block": "fire", "width": 0.5, "activation": "tanh", "dropout": 0.4},
        {"head_layers": 1},
        {"cut": 2, "squeeze_excitation": True},
        {"classifier": "conv"},
    ],
)
def test_a_resolved_architecture_is_the_same_network_with_no_option_open(changes):
    asked = Architecture(model="household", **changes)
    resolved = asked.resolved()
    assert set(HouseholdConfig.model_fields) <= set(resolved.model_dump(exclude_none=True))
    assert {name: getattr(resolved, name) for name in changes} == changes
    assert repr(sketch(resolved)) == repr(sketch(asked))
    assert resolved.resolved() == resolved


def test_other_networks_are_resolved_already():
    architecture = Architecture(model="squeezenet1_1", cut=2)
    assert architecture.resolved() == architecture


def test_a_member_that_cannot_be_is_not_resolved():
    with pytest.raises(UsageError, match="household can't have dropout 1"):
        Architecture(model="household", dropout=1).resolved()


def test_dropout_is_an_option_of_the_family_alone():
    network = sketch(Architecture(model="household", dropout=0.4))
    assert {layer.p for layer in network.head.modules() if isinstance(layer, nn.Dropout)} == {0.4}
    with pytest.raises(UsageError, match="dropout: only the model 'household' has such options"):
        check(Architecture(model="squeezenet1_1", dropout=0.4))


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


def test_an_auxiliary_head_that_is_left_out_is_told():
    assert left_out(Architecture(model="inception_v3", image_size=75)) == (
        "inception_v3 trains without its auxiliary head: that needs pictures of at least 299 px, found 75."
    )


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(model="inception_v3", image_size=299),
        Architecture(model="inception_v3", image_size=75, cut=2),  # no cut has one
        Architecture(model="squeezenet1_1"),
    ],
)
def test_nothing_is_told_where_no_auxiliary_head_is_left_out(architecture):
    assert left_out(architecture) is None


@pytest.mark.parametrize(
    ("architecture", "label"),
    [
        (Architecture(model="household", block="fire", width=0.5), "household block fire width 0.5"),
        (Architecture(model="densenet121", cut=2), "densenet121 cut 2"),
        (
            Architecture(model="squeezenet1_1", activation="gelu", head_layers=1),
            "squeezenet1_1 gelu head 1×256",
        ),
    ],
)
def test_a_label_names_what_was_changed(architecture, label):
    assert architecture.label == label


def test_a_sketch_takes_no_memory():
    assert all(tensor.is_meta for tensor in sketch(Architecture(model="densenet201")).parameters())
