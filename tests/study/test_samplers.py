"""Every sampler proposes valid points of every kind of space, each point once, pending trials and all."""

import pytest

from hkbench.errors import UsageError
from hkbench.spaces.space import Space
from hkbench.study.ask_tell import AskTell
from hkbench.study.points import Asked, point_key
from hkbench.study.samplers import SAMPLERS, build_sampler

PARAMETERS = {
    "model": {"type": "categorical", "choices": ["household_s", "household_m"]},
    "loss": {"type": "categorical", "choices": ["kd", "hard"]},
    "temperature": {"type": "float", "low": 1, "high": 4, "step": 1, "when": {"loss": "kd"}},
    "alpha": {"type": "float", "low": 0, "high": 0.8, "step": 0.2, "when": {"loss": "kd"}},
}
POINTS = 2 * (4 * 5 + 1)


def space_of(**changes):
    found = {
        "name": "small",
        "about": "for tests",
        "parameters": PARAMETERS,
        "objectives": {"accuracy": "maximize", "artifact_bytes": "minimize"},
        "defaults": {"image_size": 32},
    }
    return Space.model_validate(found | changes)


def value_of(params):
    worth = 0.5 if params["model"] == "household_s" else 0.7
    return {"accuracy": worth - 0.01 * params.get("temperature", 9), "artifact_bytes": worth * 1e6}


def ask_all(study, most=200):
    """Ask until nothing comes, each point told at once; return the points."""
    points = []
    while len(points) < most and (asked := study.ask()) is not None:
        points.append(asked.params)
        study.tell_complete(asked.number, value_of(asked.params), {})
    return points


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"frontier"}))
def test_a_space_that_ends_is_asked_for_to_its_last_point_and_no_point_twice(name):
    points = ask_all(AskTell.in_memory(space_of(), 0, name))
    assert len({point_key(point) for point in points}) == len(points) == POINTS
    assert all(("alpha" in point) == (point["loss"] == "kd") for point in points)


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"frontier"}))
def test_points_that_are_under_way_are_not_proposed_again(name):
    study = AskTell.in_memory(space_of(), 0, name)
    points = [study.ask().params for _ in range(20)]
    assert len({point_key(point) for point in points}) == 20


def test_a_grid_of_a_space_without_an_end_is_refused():
    parameters = PARAMETERS | {"alpha": {"type": "float", "low": 0, "high": 0.8, "when": {"loss": "kd"}}}
    with pytest.raises(UsageError, match="Give its ranges a step"):
        AskTell.in_memory(space_of(parameters=parameters), 0, "grid")


def test_an_unknown_sampler_names_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'nsga2'"):
        build_sampler("nsga", 0)


def test_seed_points_come_first_whatever_the_sampler():
    seeds = [{"name": "one", "source": "here", "params": {"model": "household_m", "loss": "hard"}}]
    for name in sorted(set(SAMPLERS) - {"frontier"}):
        asked = AskTell.in_memory(space_of(start_with=seeds), 0, name).ask()
        assert (asked.params, asked.seed_point) == ({"model": "household_m", "loss": "hard"}, "one")


def test_tpe_follows_limits_that_follow_another_parameter():
    parameters = {
        "image_size": {"type": "categorical", "choices": [32, 64]},
        "batch_size": {"type": "int", "low": 2, "high": {"of": "image_size", "times": 0.5}},
        "learning_rate": {"type": "float", "low": 0.001, "high": 0.1, "log": True},
    }
    space = space_of(parameters=parameters, defaults={"model": "household_s", "loss": "hard"})
    study = AskTell.in_memory(space, 0, "tpe")
    found = []
    for _ in range(60):
        asked = study.ask()
        found.append(asked.params)
        study.tell_complete(
            asked.number, {"accuracy": asked.params["batch_size"] / 64, "artifact_bytes": 1.0}, {}
        )
    assert all(2 <= each["batch_size"] <= each["image_size"] // 2 for each in found)
    assert max(each["batch_size"] for each in found if each["image_size"] == 64) > 16


def test_a_thawed_trial_that_the_study_has_lost_comes_back_as_one():
    study = AskTell.in_memory(space_of(), 0, "random")
    stopped = study.ask()
    study.tell_pruned(stopped.number, {"accuracy": 0.1}, "beaten")
    study.adopt(Asked(number=1, params=stopped.params, seed_point=None, thaws=stopped.number))
    assert [(asked.number, asked.thaws) for asked in study.running()] == [(1, stopped.number)]
    study.tell_complete(1, value_of(stopped.params), {})
    assert study.trained() == 1


def test_a_fault_after_a_write_costs_no_point_its_place(tmp_path):
    study = AskTell.open(tmp_path / "study.log", space_of(), 0, "random")
    first = study.ask()
    noted, study._book.note = study._book.note, fail
    with pytest.raises(OSError, match="away"):
        study.ask()
    with pytest.raises(OSError, match="away"):
        study.tell_complete(first.number, dict.fromkeys(space_of().objectives, 1.0), {})
    study._book.note = noted
    study.mend()
    assert study.trained() == 1
    assert len(study._book.tally.had) == 2


def fail(*_):
    raise OSError("away")
