import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hkbench.models.classifier import Classifier, parameter_count
from hkbench.models.household import MEDIUM, SMALL, HouseholdConfig, household


def parameters(config: HouseholdConfig) -> int:
    parts = household(config, 69)
    return parameter_count(parts.body) + parameter_count(parts.head)


@settings(max_examples=15, deadline=None)
@given(
    width=st.floats(0.25, 2.0),
    depth=st.integers(1, 3),
    expansion=st.floats(1.0, 6.0),
    activation=st.sampled_from(["relu6", "hard_swish", "silu", "gelu"]),
)
def test_any_member_gives_logits(width: float, depth: int, expansion: float, activation: str):
    config = HouseholdConfig(width=width, depth=depth, expansion=expansion, activation=activation)
    network = Classifier("household", 7, household(config, 7)).eval()
    with torch.inference_mode():
        logits = network(torch.rand(2, 3, 32, 32))
    assert logits.shape == (2, 7)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(
    "larger",
    [HouseholdConfig(width=1.5), HouseholdConfig(depth=2), HouseholdConfig(expansion=4.0), MEDIUM],
)
def test_width_depth_and_expansion_each_add_parameters(larger: HouseholdConfig):
    assert parameters(larger) > parameters(SMALL)


def test_activation_adds_no_parameters():
    assert parameters(HouseholdConfig(activation="silu")) == parameters(SMALL)
