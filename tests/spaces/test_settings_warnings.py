"""Is a user warned of an activation that pretrained weights weren't learned with, and only then?"""

import pytest

from hkbench.spaces.settings import lost_worth, settings_of


def warning(**values: object) -> str | None:
    return lost_worth(settings_of({"loss": "hard", **values}))


@pytest.mark.parametrize(
    ("model", "activation"),
    [
        ("squeezenet1_1", "gelu"),
        ("efficientnet_lite0", "relu"),
        ("mobilenetv3_small_100", "hardswish"),  # it has relu too, which would be swapped
    ],
)
def test_another_activation_costs_pretrained_weights_their_worth(model: str, activation: str):
    found = warning(model=model, weights="imagenet", activation=activation)
    assert found is not None
    assert found.startswith(
        f"{model} starts from pretrained weights, but with another activation, {activation}:"
    )


@pytest.mark.parametrize(
    ("model", "activation"),
    [("squeezenet1_1", "relu"), ("efficientnet_lite0", "relu6"), ("timm/efficientnet_b0", "silu")],
)
def test_the_networks_own_activation_costs_nothing(model: str, activation: str):
    assert warning(model=model, weights="imagenet", activation=activation) is None


def test_without_weights_nothing_can_be_lost():
    assert warning(model="squeezenet1_1", weights="none", activation="gelu") is None
