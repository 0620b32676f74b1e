from typing import get_args

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from timm.models._efficientnet_blocks import InvertedResidual
from torch import nn

from hkbench.errors import UsageError
from hkbench.models.activations import ACTIVATIONS
from hkbench.models.classifier import Classifier, parameter_count
from hkbench.models.counts import folded_parameters, macs
from hkbench.models.household import (
    MEDIUM,
    MOBILENET_V1,
    MOBILENET_V2,
    SMALL,
    SQUEEZENET,
    HouseholdConfig,
    household,
)
from hkbench.models.household.blocks import BLOCKS, BlockName
from hkbench.models.household.config import ClassifierName, StemName
from hkbench.models.household.layouts import LAYOUTS, LayoutName
from hkbench.models.household.network import STEMS

KERNEL_SIZES = (3, 5, 7)

members = st.builds(
    HouseholdConfig,
    layout=st.sampled_from(list(LAYOUTS)),
    block=st.sampled_from(list(BLOCKS)),
    width=st.floats(0.25, 0.5),
    depth=st.integers(1, 4),
    expansion=st.floats(1, 6),
    kernel_size=st.sampled_from(KERNEL_SIZES),
    squeeze_excitation=st.booleans(),
    stem=st.sampled_from(list(STEMS)),
    activation=st.sampled_from(list(ACTIVATIONS)),
    classifier=st.sampled_from(get_args(ClassifierName)),
    dropout=st.floats(0, 0.9),
)


def member(config: HouseholdConfig, classes: int = 7) -> Classifier:
    return Classifier("household", classes, household(config, classes))


def shapes_of(config: HouseholdConfig, classes: int = 7) -> Classifier:
    with torch.device("meta"):
        return member(config, classes)


def check_that_it_learns(config: HouseholdConfig, image_size: int) -> None:
    network = member(config)
    pictures = torch.rand(4, 3, image_size, image_size)
    logits = network(pictures)
    assert logits.shape == (4, 7)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    network.freeze(len(network.stages) - 1).eval()
    with torch.inference_mode():
        assert torch.isfinite(network(pictures)).all()
        torch.testing.assert_close(network.logits_from(network.frozen_features(pictures)), network(pictures))


@settings(max_examples=25, deadline=None)
@given(config=members, image_size=st.sampled_from([32, 33, 45, 64]))
def test_every_member_learns_at_every_size(config: HouseholdConfig, image_size: int):
    check_that_it_learns(config, image_size)


@pytest.mark.parametrize("stem", get_args(StemName))
@pytest.mark.parametrize("block", get_args(BlockName))
def test_every_block_learns_after_every_stem(block: BlockName, stem: StemName):
    config = HouseholdConfig(block=block, stem=stem, width=0.25, squeeze_excitation=True, classifier="conv")
    check_that_it_learns(config, 33)


def test_every_name_of_an_option_has_what_it_names():
    assert set(LAYOUTS) == set(get_args(LayoutName))
    assert set(BLOCKS) == set(get_args(BlockName))
    assert set(STEMS) == set(get_args(StemName))


@pytest.mark.parametrize("classifier", get_args(ClassifierName))
@pytest.mark.parametrize("layout", get_args(LayoutName))
def test_stages_are_the_stem_the_layout_and_the_hidden_layer(layout: LayoutName, classifier: ClassifierName):
    config = HouseholdConfig(layout=layout, classifier=classifier, stem="conv_pool", depth=2)
    parts = household(config, 7)
    assert [name for stage in parts.stages for name in stage] == [
        name for name, _ in parts.body.named_children()
    ]
    blocks = [2 * stage.blocks for stage in LAYOUTS[layout].stages]
    assert [len(stage) for stage in parts.stages] == [2, *blocks, *([1] if classifier == "hidden" else [])]
    assert parts.in_order


@pytest.mark.parametrize(
    ("config", "downsampling"),
    [(HouseholdConfig(), 16), (HouseholdConfig(stem="conv_pool"), 32), (HouseholdConfig(stem="patch"), 32)],
)
@pytest.mark.parametrize("block", get_args(BlockName))
def test_stem_and_stages_decide_the_size_of_the_map(
    config: HouseholdConfig, downsampling: int, block: BlockName
):
    network = shapes_of(config.model_copy(update={"block": block}))
    features = network.features(torch.empty(1, 3, 128, 128, device="meta"))
    assert features.shape[-2:] == (128 // downsampling, 128 // downsampling)


def test_squeezenet_is_a_member():
    network = shapes_of(SQUEEZENET, 1000)
    assert folded_parameters(network) == parameter_count(torchvision.models.squeezenet1_1())


@pytest.mark.parametrize(
    ("config", "published"), [(MOBILENET_V1, "mobilenetv1_100"), (MOBILENET_V2, "mobilenetv2_100")]
)
def test_mobilenets_are_members(config: HouseholdConfig, published: str):
    network, other = shapes_of(config, 1000), timm.create_model(published, num_classes=1000)
    assert folded_parameters(network) == folded_parameters(other)
    assert parameter_count(network) == parameter_count(other)
    assert macs(network, 224) == macs(other, 224)


@pytest.mark.parametrize(("config", "parameters"), [(SMALL, 35_877), (MEDIUM, 175_685)])
def test_named_members_are_what_they_were(config: HouseholdConfig, parameters: int):
    network = member(config, 69)
    assert parameter_count(network) == parameters
    assert all(isinstance(block, InvertedResidual) for block in network.body[1:-1])


@pytest.mark.parametrize(
    "larger",
    [
        {"width": 1.5},
        {"depth": 2},
        {"expansion": 4},
        {"kernel_size": 5},
        {"squeeze_excitation": True},
        {"classifier": "hidden"},
    ],
)
def test_each_option_that_adds_something_adds_parameters(larger: dict[str, object]):
    smaller = HouseholdConfig(classifier="linear")
    assert folded_parameters(shapes_of(smaller.model_copy(update=larger))) > folded_parameters(
        shapes_of(smaller)
    )


@pytest.mark.parametrize("activation", set(ACTIVATIONS) - {"prelu"})
def test_the_activation_is_everywhere_and_adds_no_parameters(activation: str):
    wanted = type(ACTIVATIONS[activation]())
    for block in BLOCKS:
        config = HouseholdConfig(block=block, squeeze_excitation=True, activation=activation)
        network = shapes_of(config)
        assert parameter_count(network) == parameter_count(
            shapes_of(config.model_copy(update={"activation": "relu"}))
        )
        others = {type(ACTIVATIONS[other]()) for other in ACTIVATIONS} - {wanted, nn.Sigmoid}
        found = [type(module) for module in network.modules()]
        assert wanted in found
        assert not others & set(found)


def test_logits_of_the_convolutional_classifier_are_not_held_by_the_activation():
    network = member(HouseholdConfig(classifier="conv", activation="sigmoid", dropout=0))
    nn.init.constant_(network.head[1].bias, 5.0)
    assert network(torch.rand(4, 3, 32, 32)).max() > 2


def test_a_member_can_be_a_key():
    costs = {HouseholdConfig(width=0.5): 1}
    assert costs[HouseholdConfig(width=0.5)] == 1
    assert HouseholdConfig() == SMALL


@pytest.mark.parametrize(
    "wrong",
    [
        {"block": "dense"},
        {"width": 0.2},
        {"width": 4.5},
        {"depth": 0},
        {"depth": 1.5},
        {"expansion": 0.5},
        {"kernel_size": 4},
        {"stem": "none"},
        {"dropout": 1},
        {"heads": 8},
    ],
)
def test_what_is_no_member_is_refused(wrong: dict[str, object]):
    with pytest.raises(ValidationError):
        HouseholdConfig.model_validate(wrong)


def test_an_unknown_activation_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'hardswish'"):
        HouseholdConfig(activation="hard_swish")
