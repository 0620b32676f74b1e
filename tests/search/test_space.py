"""Spaces: what is shipped holds, and what is wrong is named in one line."""

import optuna
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hkbench.errors import UsageError
from hkbench.search.space import load_space, shipped_spaces

POINTS = 200


def written(tmp_path, **changes):
    space = {
        "name": "tiny",
        "about": "a test",
        "parameters": {
            "model": {"type": "categorical", "choices": ["household_s", "baseline_cnn"]},
            "loss": {"type": "categorical", "choices": ["kd", "hard"]},
            "temperature": {"type": "float", "low": 1, "high": 10, "log": True, "when": {"loss": "kd"}},
            "alpha": {"type": "float", "low": 0, "high": 1, "when": {"loss": "kd"}},
        },
        "objectives": {"accuracy": "maximize"},
        **changes,
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(space))
    return str(path)


@pytest.mark.parametrize("name", shipped_spaces())
def test_every_sampled_point_of_a_shipped_space_is_valid(name):
    space = load_space(name)
    study = optuna.create_study(
        directions=list(space.objectives.values()), sampler=optuna.samplers.RandomSampler(seed=0)
    )
    for _ in range(POINTS):
        params = space.choose(study.ask())
        found = space.settings(params)
        assert (found.model, found.image_size) in space.architectures()
        assert set(params) >= {n for n, p in space.parameters.items() if not p.when}
        for parameter in (space.parameters[name] for name in params):
            assert parameter.active(params)


@pytest.mark.parametrize("name", shipped_spaces())
def test_every_seed_point_of_a_shipped_space_says_where_it_comes_from(name):
    space = load_space(name)
    assert space.start_with
    for point in space.start_with:
        assert len(point.source) > 5
        assert space.settings(point.params)


def test_the_distill_space_starts_with_the_study_and_its_twin_without_a_teacher():
    space = load_space("distill")
    study, twin = space.start_with[:2]
    assert (study.params["temperature"], study.params["alpha"]) == (2, 0.3)
    assert twin.params == {
        **{k: v for k, v in study.params.items() if k not in ("temperature", "alpha")},
        "loss": "hard",
    }


def test_conditions_decide_what_is_asked_for(tmp_path):
    space = load_space(written(tmp_path))
    kd = space.choose(
        optuna.trial.FixedTrial({"model": "household_s", "loss": "kd", "temperature": 2, "alpha": 0.5})
    )
    hard = space.choose(optuna.trial.FixedTrial({"model": "household_s", "loss": "hard"}))
    assert set(kd) - set(hard) == {"temperature", "alpha"}


def test_one_setting_can_have_two_ranges(tmp_path):
    rates = {"type": "float", "sets": "learning_rate"}
    parameters = {
        "model": {"type": "categorical", "choices": ["household_s"]},
        "optimizer": {"type": "categorical", "choices": ["sgd", "adamw"]},
        "sgd_lr": {**rates, "low": 0.1, "high": 0.2, "when": {"optimizer": "sgd"}},
        "adamw_lr": {**rates, "low": 0.001, "high": 0.002, "when": {"optimizer": "adamw"}},
    }
    space = load_space(written(tmp_path, parameters=parameters, defaults={"loss": "hard"}))
    params = space.choose(
        optuna.trial.FixedTrial({"model": "household_s", "optimizer": "adamw", "adamw_lr": 0.0015})
    )
    assert space.settings(params).learning_rate == 0.0015


@given(st.integers(1, 50))
@settings(deadline=None, max_examples=10)
def test_a_key_can_be_overridden(epochs):
    space = load_space("distill", {"schedule.max_epochs": str(epochs), "defaults.image_size": "48"})
    assert space.schedule.max_epochs == epochs
    assert space.architectures()[0][1] == 48


def test_a_limit_says_by_how_much_it_is_broken(tmp_path):
    space = load_space(written(tmp_path, constraints={"artifact_bytes": {"at_most": 100}}))
    assert space.constraints["artifact_bytes"].violation(130) == 30
    assert space.constraints["artifact_bytes"].violation(90) <= 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parametres": {}}, "no key 'parametres'. Did you mean 'parameters'"),
        ({"objectives": {"acuracy": "maximize"}}, "Did you mean 'accuracy'"),
        ({"parameters": {"modle": {"type": "categorical", "choices": ["a"]}}}, "Did you mean 'model'"),
        ({"defaults": {"model": "squeezenet"}, "start_with": []}, None),
        (
            {"parameters": {"alpha": {"type": "float", "low": 0, "high": 1, "when": {"los": "kd"}}}},
            "depends on 'los', which is no parameter",
        ),
        (
            {
                "parameters": {
                    "alpha": {"type": "float", "low": 0, "high": 1, "when": {"temperature": 1}},
                    "temperature": {"type": "float", "low": 0, "high": 1, "when": {"alpha": 1}},
                }
            },
            "depend on each other",
        ),
        ({"parameters": {"alpha": {"type": "flaot", "low": 0, "high": 1}}}, "parameters.alpha"),
        ({"schedule": {"max_epoch": 3}}, "Did you mean 'max_epochs'"),
        (
            {"start_with": [{"name": "p", "source": "somewhere", "params": {"model": "squeezenet11"}}]},
            "Did you mean 'squeezenet1_1'",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, message):
    path = written(tmp_path, **changes)
    if message is None:
        load_space(path)
        return
    with pytest.raises(UsageError, match=message):
        load_space(path)


def test_an_unknown_space_is_guessed():
    with pytest.raises(UsageError, match=r"no space 'distil'\. Did you mean 'distill'"):
        load_space("distil")


def test_broken_yaml_is_a_usage_error(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("name: [")
    with pytest.raises(UsageError, match="no YAML"):
        load_space(str(path))
