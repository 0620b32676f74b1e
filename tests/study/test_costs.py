"""What an architecture costs decides whether it is worth training at all."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from search_fakes import COSTS, tiny_plan

from hkbench.benchmark.artifact import BESIDE, measure_artifact
from hkbench.benchmark.isolate import RowFailure
from hkbench.benchmark.jobs import EnergyResult
from hkbench.errors import HkbenchError, UsageError
from hkbench.models.architecture import Architecture
from hkbench.models.build import sketch
from hkbench.spaces.parameters import CategoricalParameter
from hkbench.spaces.space import Limit
from hkbench.store.device_lock import DeviceShare, devices_of
from hkbench.study import costs as costs_module
from hkbench.study.costs import Costs, broken_limits

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


def test_what_a_large_space_proposes_is_counted_when_it_is_asked_for_and_not_timed_for_nothing(tmp_path):
    objectives = {"accuracy": "maximize", "macs": "minimize"}
    defaults = {"image_size": 32, "loss": "hard"}
    costs = Costs(
        space(tmp_path, parameters=WIDTHS, objectives=objectives, defaults=defaults), ("a", "b"), "cpu"
    )
    costs.measure()
    cost = costs.of(Architecture(model="household", image_size=32, width=0.5))
    assert cost.latency_ms is None
    assert set(cost.objectives()) == {"artifact_bytes", "parameters", "macs"}


def wide_space(folder, **changes):
    return space(folder, parameters=WIDTHS, defaults={"image_size": 32, "loss": "hard"}, **changes)


def household(width):
    return Architecture(model="household", image_size=32, width=width)


def test_what_a_large_space_proposes_is_timed_once_where_latency_decides_while_trainings_pause(
    tmp_path, monkeypatch
):
    wide = wide_space(tmp_path)
    costs = Costs(wide, ("a", "b"))
    costs.measure()
    share = DeviceShare(devices_of(None))
    with ThreadPoolExecutor(1) as elsewhere, share:
        asked = elsewhere.submit(costs.of, household(0.375))
        while not asked.done():
            share.pause()
            time.sleep(0.001)
    cost = asked.result()
    assert cost.objectives()["latency_ms"] > 0
    assert time.perf_counter() - share.clock() >= 0.5
    monkeypatch.setattr(costs_module, "measure_artifact", None)  # nothing is measured again
    assert costs.of(household(0.375)) == cost
    assert Costs(wide, ("a", "b")).of(household(0.375)) == cost


def test_what_was_measured_beside_a_training_is_not_kept(tmp_path, monkeypatch):
    def beside(*given, **named):
        row = measure_artifact(*given, **named)
        return row.model_copy(update={"reason": BESIDE})

    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(costs_module, "measure_artifact", beside)
    assert Costs(wide_space(tmp_path), ("a", "b")).of(household(0.3125)).latency_ms > 0
    assert not (tmp_path / "cache" / "costs").exists()


def test_what_breaks_a_limit_by_its_counts_is_not_timed(tmp_path):
    limited = wide_space(tmp_path, constraints={"macs": {"at_most": 1}})
    assert Costs(limited, ("a", "b")).of(household(0.5625)).latency_ms is None


def test_energy_is_refused_before_anything_trains_where_it_cannot_be_had(tmp_path):
    wanted = {"accuracy": "maximize", "energy_mj": "minimize"}
    for asked in (
        wide_space(tmp_path, objectives=wanted),
        only_one(tmp_path, constraints={"energy_mj": {"at_most": 5}}),
    ):
        with pytest.raises(UsageError, match="energy_mj can't be measured on cpu: a processor has no"):
            Costs(asked, ("a", "b")).measure()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_latency_on_a_device_that_is_not_there_is_refused_before_anything_trains(tmp_path):
    with pytest.raises(
        UsageError, match="latency_ms can't be measured on cuda:0: torch finds no CUDA device"
    ):
        Costs(wide_space(tmp_path), ("a", "b"), "cuda:0").measure()


def with_energy(monkeypatch, answer):
    """Give the one figure that takes a GPU; what else is done with it is real."""
    monkeypatch.setattr(costs_module, "why_no_energy", lambda device: None)
    monkeypatch.setattr(costs_module, "measure_energy", answer)


def test_energy_is_an_objective_that_is_measured_once(tmp_path, monkeypatch):
    asked = []

    def answer(path, *, device):
        asked.append((path.stat().st_size, device))
        return EnergyResult(energy_mj=2.5, idle_w=60, calls=4000, alone=True)

    with_energy(monkeypatch, answer)
    wanted = {"accuracy": "maximize", "energy_mj": "minimize"}
    costs = Costs(wide_space(tmp_path, objectives=wanted), ("a", "b"))
    costs.measure()
    cost = costs.of(household(0.6875))
    assert cost.objectives()["energy_mj"] == 2.5
    assert cost.latency_ms is None
    assert asked == [(cost.artifact_bytes, "cpu")]
    assert Costs(wide_space(tmp_path, objectives=wanted), ("a", "b")).of(household(0.6875)) == cost
    assert len(asked) == 1
    # A space that doesn't ask for it has it from the cache, and pays nothing.
    assert Costs(wide_space(tmp_path), ("a", "b")).of(household(0.6875)).energy_mj == 2.5


def test_energy_that_fails_for_one_network_says_which(tmp_path, monkeypatch):
    with_energy(monkeypatch, lambda path, *, device: RowFailure(reason="out of memory"))
    wanted = {"accuracy": "maximize", "energy_mj": "minimize"}
    costs = Costs(wide_space(tmp_path, objectives=wanted), ("a", "b"))
    with pytest.raises(HkbenchError, match=r"energy of household .* can't be measured on cpu: out of memory"):
        costs.of(household(0.8125))


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
