"""What an architecture costs decides whether it is worth training at all."""

import pytest
from search_fakes import COSTS

from hkbench.errors import UsageError
from hkbench.search.costs import broken_limits, measure_costs, refuse_impossible
from hkbench.search.space import Limit

SMALL, LARGE = COSTS["household_s", 32, False], COSTS["baseline_cnn", 32, False]


def test_a_broken_limit_is_named_with_its_excess():
    limits = {"artifact_bytes": Limit(at_most=500_000), "accuracy": Limit(at_least=0.5)}
    assert broken_limits(LARGE, limits) == {"artifact_bytes": 900_000}
    assert broken_limits(SMALL, limits) == {}


def test_limits_that_no_architecture_keeps_are_refused_with_the_nearest():
    refuse_impossible(COSTS, {"artifact_bytes": Limit(at_most=200_000)})
    with pytest.raises(UsageError, match="nearest is household_s at 32 px, with artifact_bytes 200,000"):
        refuse_impossible(COSTS, {"artifact_bytes": Limit(at_most=100_000)})


def test_a_cost_is_measured_once_and_belongs_to_its_labels_and_head():
    told = []
    architecture = ("household_s", 32, False)

    def advance(done, total):
        told.append((done, total))

    first = measure_costs([architecture], ("a", "b"), "cpu", advance)[architecture]
    again = measure_costs([architecture], ("a", "b"), "cpu")[architecture]
    other = measure_costs([architecture], ("a" * 500, "b"), "cpu")[architecture]
    frozen = ("household_s", 32, True)
    assert again == first
    assert told == [(1, 1)]
    assert other.artifact_bytes > first.artifact_bytes
    assert measure_costs([frozen], ("a", "b"), "cpu")[frozen].parameters > first.parameters
