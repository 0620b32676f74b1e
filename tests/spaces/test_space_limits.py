"""Limits that follow another parameter or the teacher: numbers where they are needed, or refused."""

import math

import optuna
import pytest
import yaml

from hkbench.errors import UsageError
from hkbench.spaces.checks import edge_settings
from hkbench.spaces.file import load_space
from hkbench.spaces.space import Space
from hkbench.study.samplers import SAMPLERS, build_sampler

SIZE = {"type": "categorical", "choices": [32, 64, 96]}
MODEL = {"type": "categorical", "choices": ["household", "squeezenet1_1"]}


def made(parameters, **changes):
    fields = {
        "name": "limits",
        "about": "a test",
        "parameters": parameters,
        "objectives": {"accuracy": "maximize", "artifact_bytes": "minimize"},
        "defaults": {"model": "household_s", "loss": "hard"},
        **changes,
    }
    return Space.model_validate(fields)


def follows(name, **how):
    return {"of": name, **how}


@pytest.fixture
def followed():
    """A batch no larger than half of the picture's edge, and a seed between the two."""
    return made(
        {
            "seed": {"type": "int", "low": follows("batch_size"), "high": follows("image_size")},
            "batch_size": {"type": "int", "low": 2, "high": follows("image_size", times=0.5, plus=-0.5)},
            "image_size": SIZE,
        }
    )


def test_a_parameter_comes_after_those_that_its_limits_follow(followed):
    assert followed.order() == ["image_size", "batch_size", "seed"]
    assert followed.derived() == {"batch_size", "seed"}


def test_every_value_within_derived_limits_is_a_point_and_no_other(followed):
    expected = {
        (size, batch, seed)
        for size in (32, 64, 96)
        for batch in range(2, size // 2)  # half of it, less a half, rounded down
        for seed in range(batch, size + 1)
    }
    points = [(point["image_size"], point["batch_size"], point["seed"]) for point in followed.points()]
    assert len(points) == len(set(points))
    assert set(points) == expected


@pytest.fixture
def optuna_log(caplog):
    """What Optuna logs from warnings on."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.logging.enable_propagation()
    yield caplog
    optuna.logging.disable_propagation()
    optuna.logging.set_verbosity(before)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_keep_derived_limits(sampler, followed, optuna_log):
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=build_sampler(sampler, 0))
    for _ in range(10 if sampler == "gp" else 40):
        trial = study.ask()
        point = followed.choose(trial)
        assert 2 <= point["batch_size"] <= point["image_size"] // 2 - 1
        assert point["batch_size"] <= point["seed"] <= point["image_size"]
        study.tell(trial, [point["seed"], point["batch_size"]])
    if sampler == "tpe":  # gp says that it draws such a parameter by chance
        assert optuna_log.records == []


def test_the_widest_range_is_that_of_all_causes(followed):
    assert followed.widest("batch_size") == (2, 47)
    assert followed.widest("seed") == (2, 96)


def test_the_ends_of_a_derived_range_are_tried_when_a_space_is_checked(followed):
    tried = {(settings.image_size, settings.batch_size) for settings in edge_settings(followed)}
    assert {(32, 2), (32, 15), (96, 47)} <= tried


def test_a_real_range_follows_without_the_noise_of_binary_fractions():
    space = made(
        {
            "momentum": {"type": "float", "low": 0.1, "high": 0.3},
            "dropout": {"type": "float", "low": 0, "high": follows("momentum", times=3)},
        },
        defaults={"model": "household", "loss": "hard"},
        start_with=[{"name": "top", "source": "a test", "params": {"momentum": 0.1, "dropout": 0.3}}],
    )
    assert space.seed_points()[0][1]["dropout"] == 0.3


def test_settings_with_derived_limits_are_listed():
    space = made(
        {
            "depth": {"type": "int", "low": 1, "high": 2},
            "image_size": {"type": "int", "low": 32, "high": follows("depth", times=16, plus=16), "step": 16},
        },
        defaults={"model": "household", "loss": "hard"},
    )
    assert space.image_sizes() == [32, 48]
    assert [(each.depth, each.image_size) for each in space.architectures()] == [(1, 32), (2, 32), (2, 48)]


def test_a_seed_point_is_held_against_the_limits_that_it_sets(followed):
    space = made(
        {name: parameter.model_dump() for name, parameter in followed.parameters.items()},
        start_with=[{"name": "p", "source": "a test", "params": {"image_size": 32, "batch_size": 20}}],
    )
    with pytest.raises(
        UsageError, match=r"no value of 'batch_size' in the seed point 'p': '20'\. .*Known: 15, 2"
    ):
        space.seed_points()
    space = made(
        {name: parameter.model_dump() for name, parameter in followed.parameters.items()},
        start_with=[{"name": "p", "source": "a test", "params": {"batch_size": 20}}],
    )
    with pytest.raises(UsageError, match="whose range follows 'image_size': set that too"):
        space.seed_points()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"batch_size": {"type": "int", "low": 2, "high": follows("imagesize")}, "image_size": SIZE},
            "no parameter for 'batch_size' to follow: 'imagesize'. Did you mean 'image_size'",
        ),
        (
            {"batch_size": {"type": "int", "low": 2, "high": follows("model")}, "model": MODEL},
            "'batch_size' follows 'model', which must be a number",
        ),
        (
            {"batch_size": {"type": "int", "low": 40, "high": follows("image_size")}, "image_size": SIZE},
            "'batch_size' has no values where 'image_size' is 32: low is 40, above high, 32",
        ),
        (
            {
                "momentum": {"type": "float", "low": 0, "high": 1},
                "weight_decay": {"type": "float", "low": follows("momentum"), "high": 1, "log": True},
            },
            "'weight_decay' has no values where 'momentum' is 0.0: a logarithmic range needs low above 0",
        ),
        (
            {
                "seed": {"type": "int", "low": 0, "high": follows("batch_size")},
                "batch_size": {"type": "int", "low": follows("seed"), "high": 9},
            },
            "limits of batch_size, seed depend on each other",
        ),
        (
            {
                "model": MODEL,
                "depth": {"type": "int", "low": 1, "high": 3, "when": {"model": "household"}},
                "seed": {"type": "int", "low": 0, "high": follows("depth")},
            },
            "'seed' follows 'depth', which is asked for under conditions on 'model' alone: give 'seed'",
        ),
        (
            {
                "image_size": SIZE,
                "batch_size": {"type": "int", "low": 2, "high": follows("image_size", times=0.25)},
                "momentum": {
                    "type": "float",
                    "low": 0,
                    "high": 1,
                    "when": {"batch_size": 20, "image_size": 64},
                },
            },
            "never be asked for: its conditions on 'batch_size', 'image_size' never hold together",
        ),
    ],
)
def test_limits_that_cannot_be_followed_are_refused(parameters, message):
    with pytest.raises(UsageError, match=message):
        made(parameters)


def test_a_limit_follows_only_what_is_there_wherever_it_is_needed():
    there = {"model": "household"}
    space = made(
        {
            "model": MODEL,
            "depth": {"type": "int", "low": 1, "high": 3, "when": there},
            "seed": {"type": "int", "low": 0, "high": follows("depth"), "when": there},
        }
    )
    assert {point.get("seed") for point in space.points()} == {None, 0, 1, 2, 3}


TEACHER_LIMITS = {
    "artifact_bytes": {"at_most": {"of": "teacher", "times": 0.01}},
    "accuracy": {"at_least": {"of": "teacher", "plus": -0.005}},
    "macs": {"at_most": 1000},
}
TAUGHT = {"model": "household_s", "loss": "kd", "alpha": 0.5, "temperature": 2}


def test_limits_of_the_teacher_become_numbers_when_it_is_known():
    space = made(
        {"batch_size": {"type": "int", "low": 8, "high": 9}}, constraints=TEACHER_LIMITS, defaults=TAUGHT
    )
    assert space.needs_teacher_values() == {"artifact_bytes", "accuracy"}
    known = space.resolved({"artifact_bytes": 13_000_000, "accuracy": 0.9, "macs": 5})
    assert known.needs_teacher_values() == set()
    assert known.constraints["artifact_bytes"].at_most == 130_000
    assert known.constraints["accuracy"].at_least == 0.895
    assert known.constraints["macs"] == space.constraints["macs"]
    assert known.constraints["artifact_bytes"].violation(130_010) == 10
    assert known.constraints["accuracy"].violation(0.9) <= 0
    assert known.constraints["accuracy"].most == math.inf
    assert known.resolved({}) == known


def test_a_limit_of_a_teacher_that_is_not_known_is_not_read():
    space = made(
        {"batch_size": {"type": "int", "low": 8, "high": 9}}, constraints=TEACHER_LIMITS, defaults=TAUGHT
    )
    with pytest.raises(UsageError, match=r"before the teacher's value was known: Space\.resolved"):
        space.constraints["accuracy"].violation(0.5)
    with pytest.raises(
        UsageError, match="limit of 'artifact_bytes' follows the teacher, whose own isn't known"
    ):
        space.resolved({"accuracy": 0.9})
    with pytest.raises(UsageError, match=r"'accuracy' for a teacher with nan: its value is no finite number"):
        space.resolved({"accuracy": math.nan, "artifact_bytes": 1})


def test_a_limit_of_the_teacher_needs_one():
    with pytest.raises(
        UsageError, match="'accuracy' follows the teacher, and the space has no loss that reads one"
    ):
        made({"batch_size": {"type": "int", "low": 8, "high": 9}}, constraints=TEACHER_LIMITS)


def test_limits_that_cross_are_refused_as_soon_as_they_are_known(tmp_path):
    parameters = {"batch_size": {"type": "int", "low": 8, "high": 9}}
    crossing = {"accuracy": {"at_least": {"of": "teacher"}, "at_most": 0.5}}
    space = made(parameters, constraints=crossing, defaults=TAUGHT)
    with pytest.raises(UsageError, match=r"teacher with 0\.9: at_least is 0\.9, above at_most, 0\.5"):
        space.resolved({"accuracy": 0.9})
    path = tmp_path / "crossing.yaml"
    fields = space.model_dump(mode="json", exclude_none=True)
    fields["constraints"] = {"accuracy": {"at_least": 0.9, "at_most": 0.5}}
    path.write_text(yaml.safe_dump(fields))
    with pytest.raises(UsageError, match=r"at_least is 0\.9, above at_most, 0\.5"):
        load_space(str(path))
