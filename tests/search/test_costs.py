"""What an architecture costs decides whether it is worth training at all."""

import pytest
from search_fakes import COSTS, tiny_plan

from hkbench.errors import UsageError
from hkbench.models.architecture import Architecture
from hkbench.models.build import sketch
from hkbench.search import costs as costs_module
from hkbench.search.costs import Costs, broken_limits
from hkbench.search.parameters import CategoricalParameter
from hkbench.search.space import Limit

SMALL, LARGE = COSTS.values()
HOUSEHOLD = Architecture(model="household_s", image_size=32)
WIDTHS = {
    "model": {"type": "categorical", "choices": ["household"]},
    "width": {"type": "float", "low": 0.25, "high": 1},
}


def space(folder, **changes):
    return tiny_plan(folder, space={"start_with": [], **changes}).space


def only_one(folder, **changes):
    model = {"type": "categorical", "choices": ["household_s"]}
    return space(folder, parameters={"model": model}, defaults={"image_size": 32, "loss": "hard"}, **changes)


def test_a_broken_limit_is_named_with_its_excess():
    limits = {"artifact_bytes": Limit(at_most=500_000), "accuracy": Limit(at_least=0.5)}
    assert broken_limits(LARGE, limits) == {"artifact_bytes": 900_000}
    assert broken_limits(SMALL, limits) == {}


def test_limits_that_no_architecture_keeps_are_refused_with_the_nearest(tmp_path):
    costs = Costs(only_one(tmp_path), ("a", "b"), "cpu")
    costs.measure()
    found = costs.of(HOUSEHOLD).artifact_bytes
    costs.refuse_impossible({"artifact_bytes": Limit(at_most=found)})
    with pytest.raises(UsageError, match=f"nearest is household_s at 32 px, with artifact_bytes {found:,}"):
        costs.refuse_impossible({"artifact_bytes": Limit(at_most=found - 1)})


def test_a_cost_is_measured_once_and_belongs_to_its_labels_and_head(tmp_path):
    told = []
    listed = only_one(tmp_path)
    costs = Costs(listed, ("a", "b"), "cpu")
    costs.measure(lambda done, total: told.append((done, total)))
    first = costs.of(HOUSEHOLD)
    assert Costs(listed, ("a", "b"), "cpu").of(HOUSEHOLD) == first
    assert told == [(1, 1)]
    assert first.latency_ms > 0
    assert first.macs > 0
    assert Costs(listed, ("a" * 500, "b"), "cpu").of(HOUSEHOLD).artifact_bytes > first.artifact_bytes
    deeper = HOUSEHOLD.model_copy(update={"head_layers": 1})
    assert costs.of(deeper).parameters > first.parameters


def test_what_a_large_space_proposes_is_counted_when_it_is_asked_for_and_not_timed(tmp_path):
    objectives = {"accuracy": "maximize", "macs": "minimize"}
    defaults = {"image_size": 32, "loss": "hard"}
    costs = Costs(
        space(tmp_path, parameters=WIDTHS, objectives=objectives, defaults=defaults), ("a", "b"), "cpu"
    )
    costs.measure()
    cost = costs.of(Architecture(model="household", image_size=32, width=0.5))
    assert cost.latency_ms is None
    assert set(cost.objectives()) == {"artifact_bytes", "parameters", "macs"}


def test_latency_of_a_large_space_is_refused(tmp_path):
    with pytest.raises(UsageError, match="Take macs in its place"):
        Costs(
            space(tmp_path, parameters=WIDTHS, defaults={"image_size": 32, "loss": "hard"}), ("a", "b"), "cpu"
        )


def test_a_network_far_over_a_limit_is_refused_without_being_exported(tmp_path):
    parameters = {**WIDTHS, "layout": {"type": "categorical", "choices": ["household", "mobilenet_v1"]}}
    limits = {"artifact_bytes": {"at_most": 1_000_000}}
    large = space(
        tmp_path,
        parameters=parameters,
        objectives={"accuracy": "maximize", "macs": "minimize"},
        constraints=limits,
        defaults={"image_size": 32, "loss": "hard", "block": "plain", "depth": 4},
    )
    architecture = Architecture(
        model="household", image_size=32, layout="mobilenet_v1", block="plain", depth=4, width=4
    )
    cost = Costs(large, ("a", "b"), "cpu").of(architecture)
    assert cost.artifact_bytes > 2**31
    assert broken_limits(cost, large.constraints)


def test_other_layers_under_the_same_name_have_another_key():
    wide = sketch(Architecture(model="household_m", image_size=32))
    path = costs_module._cache_path(HOUSEHOLD, "fp32", sketch(HOUSEHOLD), ("a", "b"), "cpu")
    assert path != costs_module._cache_path(HOUSEHOLD, "fp32", wide, ("a", "b"), "cpu")


def test_a_cost_belongs_to_its_precision_and_the_limit_is_held_against_it(tmp_path):
    both = only_one(tmp_path, constraints={"artifact_bytes": {"at_most": 60_000}})
    precision = {"type": "categorical", "choices": ["fp32", "int8"]}
    both = both.model_copy(
        update={
            "parameters": {**both.parameters, "precision": CategoricalParameter.model_validate(precision)}
        }
    )
    costs = Costs(both, ("a", "b"), "cpu")
    costs.measure()
    whole, narrow = costs.of(HOUSEHOLD), costs.of(HOUSEHOLD, "int8")
    assert narrow.artifact_bytes < 0.5 * whole.artifact_bytes
    assert (narrow.parameters, narrow.macs) == (whole.parameters, whole.macs)
    assert narrow.latency_ms > 0
    assert broken_limits(whole, both.constraints)
    assert not broken_limits(narrow, both.constraints)
    costs.refuse_impossible(both.constraints)
    with pytest.raises(UsageError, match="household_s at 32 px in int8, with artifact_bytes"):
        costs.refuse_impossible({"artifact_bytes": Limit(at_most=1_000)})
