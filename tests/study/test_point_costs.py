"""What points cost: looked up once for each network that they stand for."""

import pytest

from hkbench.errors import UsageError
from hkbench.spaces.space import Space
from hkbench.study.costs import ArchitectureCost
from hkbench.study.point_costs import PointCosts

BYTES = {"household_s": 1e5, "household_m": 4e5}


def space_of(**changes):
    found = {
        "name": "small",
        "about": "for tests",
        "parameters": {
            "model": {"type": "categorical", "choices": [*BYTES, "squeezenet1_1"]},
            "precision": {"type": "categorical", "choices": ["fp32", "int8"]},
            "learning_rate": {"type": "float", "low": 0.001, "high": 0.1},
        },
        "objectives": {"accuracy": "maximize", "artifact_bytes": "minimize"},
        "defaults": {"loss": "hard", "image_size": 32},
    }
    return Space.model_validate(found | changes)


class Costs:
    """Costs that remember what was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, architecture, precision):
        self.asked.append((architecture.model, precision))
        if architecture.model not in BYTES:
            raise UsageError("It can't be built.")
        size = BYTES[architecture.model] / (4 if precision == "int8" else 1)
        return ArchitectureCost(artifact_bytes=int(size), latency_ms=1.0, parameters=1, macs=1)


def point(model, precision="fp32", learning_rate=0.01):
    return {"model": model, "precision": precision, "learning_rate": learning_rate}


def test_points_of_one_network_and_precision_are_looked_up_once():
    costs = Costs()
    found = PointCosts(space_of(), costs)
    rates = [0.001, 0.01, 0.05]
    assert {found(point("household_s", learning_rate=rate))["artifact_bytes"] for rate in rates} == {1e5}
    assert found(point("household_s", "int8"))["artifact_bytes"] == 25_000
    assert costs.asked == [("household_s", "fp32"), ("household_s", "int8")]


@pytest.mark.parametrize("model", ["household_m", "squeezenet1_1"])
def test_a_network_over_a_limit_or_that_cannot_be_built_costs_nothing_known(model):
    costs = Costs()
    found = PointCosts(space_of(constraints={"artifact_bytes": {"at_most": 200_000}}), costs)
    assert found(point(model)) is None
    assert found(point(model, learning_rate=0.05)) is None
    assert len(costs.asked) == 1, "and it isn't tried again"
    assert found(point("household_s"))["artifact_bytes"] == 1e5
