"""Spaces: what is shipped holds, and what is wrong is named in one line."""

import numpy as np
import optuna
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hkbench.data.augment import ViewPolicy, sample_views
from hkbench.errors import UsageError
from hkbench.models.registry import MODELS, build
from hkbench.search.space import load_space, shipped_spaces
from hkbench.training.feed import TrainingData
from hkbench.training.loop import Training

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
        assert found.architecture in space.architectures()
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
    assert {size for _, size, _ in space.architectures()} == {48}


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
        ({"objectives": {}}, "objectives"),
        ({"teacher": {"model": "densenet"}}, "no model 'densenet'"),
        ({"parameters": {"model": {"type": "categorical", "choices": ["squeezenet9"]}}}, "'squeezenet1_1'"),
        (
            {
                "parameters": {"optimizer": {"type": "categorical", "choices": ["sgd", "sgdd"]}},
                "defaults": {"model": "household_s", "loss": "hard"},
            },
            "no optimizer 'sgdd'. Did you mean 'sgd'",
        ),
        ({"parameters": {"alpha": {"type": "float", "low": 1, "high": 0}}}, "low is 1, above high, 0"),
        ({"parameters": {"alpha": {"type": "float", "low": 0, "high": 1, "log": True}}}, "low above 0"),
        (
            {"start_with": [{"name": "p", "source": "somewhere", "params": {"loss": "hard", "alpha": 0.5}}]},
            "whose conditions it doesn't meet",
        ),
        (
            {"start_with": [{"name": "p", "source": "somewhere", "params": {"model": "squeezenet11"}}]},
            "no value of 'model' in the seed point 'p': 'squeezenet11'. Known: baseline_cnn",
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


def test_a_space_that_is_no_text_is_a_usage_error(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(UsageError, match="no YAML"):
        load_space(str(path))


def test_what_decides_a_files_cost_must_be_listed(tmp_path):
    parameters = {"image_size": {"type": "float", "low": 32, "high": 64}}
    space = load_space(
        written(tmp_path, parameters=parameters, defaults={"model": "household_s", "loss": "hard"})
    )
    with pytest.raises(UsageError, match="lists of choices"):
        space.architectures()


def test_an_override_that_is_no_yaml_is_named():
    with pytest.raises(UsageError, match=r"--set schedule\.trials is no YAML"):
        load_space("distill", {"schedule.trials": "["})


@pytest.mark.parametrize("name", shipped_spaces())
def test_every_choice_of_a_shipped_space_builds_and_trains_a_step(name):
    space = load_space(name)
    covered = set()
    for settings_ in space.edge_settings():
        key = (settings_.architecture, settings_.loss, settings_.optimizer)
        if key in covered:
            continue
        covered.add(key)
        size = MODELS[settings_.model].smallest_image_size
        network = build(settings_.model, classes=3, frozen_body=settings_.frozen_body, seed=0)
        data = TrainingData(
            pictures=np.random.default_rng(0).integers(0, 256, (4, 3, size, size), dtype=np.uint8),
            labels=np.array([0, 1, 2, 0]),
            train=np.arange(4),
            validation=np.arange(4),
            views=sample_views(1, 4, 0, ViewPolicy()).parameters,
            teacher_logits=np.zeros((1, 4, 3), dtype=np.float16),
        )
        small = settings_.model_copy(update={"batch_size": 4, "learning_rate": 1e-4})
        training = Training(network, data, small.training(epochs=1, seed=0), torch.device("cpu"))
        assert next(training.epochs()).epoch == 1
    assert {s[0][0] for s in covered} == {model for model, _, _ in space.architectures()}
