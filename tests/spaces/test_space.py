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
from hkbench.models.build import build
from hkbench.models.registry import entry_of
from hkbench.spaces.checks import edge_settings, warnings_of
from hkbench.spaces.file import load_space, shipped_spaces
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
        assert space.architectures() is None or found.architecture in space.architectures()
        assert set(params) >= {n for n, p in space.parameters.items() if not p.when}
        for parameter in (space.parameters[name] for name in params):
            assert parameter.active(params)


@pytest.mark.parametrize("name", shipped_spaces())
def test_every_seed_point_of_a_shipped_space_says_where_it_comes_from(name):
    space = load_space(name)
    assert space.start_with
    for point in space.start_with:
        assert len(point.source) > 5
    assert len(space.seed_points()) >= len(space.start_with)


def test_the_distill_space_starts_with_the_study_and_its_twin_without_a_teacher():
    space = load_space("distill")
    study = space.start_with[0]
    assert (study.params["temperature"], study.params["alpha"]) == (2, 0.3)


@pytest.mark.parametrize("name", shipped_spaces())
def test_a_space_of_distillation_starts_with_a_twin_without_a_teacher(name):
    space = load_space(name)
    if not space.may_need_teacher():
        return
    points = [params for _, params in space.seed_points()[:3]]
    loss = next(name for name, found in space.parameters.items() if (found.sets or name) == "loss")
    alone = next(params for params in points if params[loss] == "hard")
    taught = [params for params in points if params[loss] != "hard"]
    kept = {name: value for name, value in alone.items() if name != loss}
    assert any(kept.items() <= params.items() for params in taught)


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
    assert space.image_sizes() == [48]


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
            "no parameter for 'alpha' to depend on: 'los'",
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


def test_picture_sizes_must_be_listed(tmp_path):
    parameters = {"image_size": {"type": "float", "low": 32, "high": 64}}
    space = load_space(
        written(tmp_path, parameters=parameters, defaults={"model": "household_s", "loss": "hard"})
    )
    with pytest.raises(UsageError, match="list of choices"):
        space.image_sizes()


def test_an_override_that_is_no_yaml_is_named():
    with pytest.raises(UsageError, match=r"--set schedule\.trials is no YAML"):
        load_space("distill", {"schedule.trials": "["})


@pytest.mark.parametrize("name", shipped_spaces())
def test_every_choice_of_a_shipped_space_builds_and_trains_a_step(name):
    space = load_space(name)
    covered = set()
    for found in edge_settings(space):
        key = (found.architecture, found.loss, found.optimizer, found.unfreeze, found.gradual_epochs)
        if key in covered:
            continue
        covered.add(key)
        size = entry_of(found.model).smallest_image_size
        small = found.model_copy(update={"batch_size": 4, "image_size": size, "learning_rate": 1e-4})
        network = build(small.architecture, classes=3, unfreeze=small.unfreeze, seed=0)
        data = TrainingData(
            pictures=np.random.default_rng(0).integers(0, 256, (4, 3, size, size), dtype=np.uint8),
            labels=np.array([0, 1, 2, 0]),
            train=np.arange(4),
            validation=np.arange(4),
            views=sample_views(1, 4, 0, ViewPolicy()).parameters,
            teacher_logits=np.zeros((1, 4, 3), dtype=np.float16),
        )
        training = Training(network, data, small.training(epochs=1, seed=0), torch.device("cpu"))
        assert next(training.epochs()).epoch == 1
    listed = space.architectures()
    if listed is not None:
        assert {key[0].model for key in covered} == {architecture.model for architecture in listed}


def space_of(tmp_path, parameters, **changes):
    return load_space(written(tmp_path, parameters=parameters, defaults={"loss": "hard"}, **changes))


def test_architectures_are_those_that_conditions_allow(tmp_path):
    space = space_of(
        tmp_path,
        {
            "model": {"type": "categorical", "choices": ["household", "efficientnet_lite0"]},
            "width": {"type": "categorical", "choices": [0.5, 1.0], "when": {"model": "household"}},
            "cut": {"type": "int", "low": 3, "high": 5, "when": {"model": "efficientnet_lite0"}},
        },
    )
    labels = [architecture.label for architecture in space.architectures()]
    assert labels == [
        "household width 0.5", "household width 1",
        "efficientnet_lite0 cut 3", "efficientnet_lite0 cut 4", "efficientnet_lite0 cut 5",
    ]  # fmt: skip


def test_a_condition_on_the_recipe_leaves_both_open(tmp_path):
    space = space_of(
        tmp_path,
        {
            "model": {"type": "categorical", "choices": ["efficientnet_lite0"]},
            "optimizer": {"type": "categorical", "choices": ["sgd", "adamw"]},
            "cut": {"type": "categorical", "choices": [3], "when": {"optimizer": "sgd"}},
        },
    )
    assert [architecture.cut for architecture in space.architectures()] == [3, None]


def test_more_architectures_than_can_be_timed_are_not_listed(tmp_path):
    model = {"type": "categorical", "choices": ["household"]}
    many = {"type": "int", "low": 8, "high": 256}
    assert space_of(tmp_path, {"model": model, "head_width": many}).architectures() is None
    width = {"type": "float", "low": 0.25, "high": 1}
    assert space_of(tmp_path, {"model": model, "width": width}).architectures() is None


def test_each_stands_for_every_combination_and_defaults_fill_what_is_left(tmp_path):
    rate = {"type": "float", "low": 0.001, "high": 0.1, "default": 0.02}
    space = space_of(
        tmp_path,
        {
            "model": {"type": "categorical", "choices": ["household_s"]},
            "optimizer": {"type": "categorical", "choices": ["sgd", "adamw"]},
            "seed": {"type": "int", "low": 0, "high": 1},
            "learning_rate": rate,
        },
        start_with=[
            {
                "name": "all",
                "source": "a test",
                "params": {"model": "household_s"},
                "each": {"optimizer": ["sgd", "adamw"], "seed": [0, 1]},
            }
        ],
    )
    names = [name for name, _ in space.seed_points()]
    assert names == ["all, sgd, 0", "all, sgd, 1", "all, adamw, 0", "all, adamw, 1"]
    assert all(params["learning_rate"] == 0.02 for _, params in space.seed_points())


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ({"model": "inception_v3", "image_size": 64}, "at least 75 px, found image_size 64"),
        ({"model": "household_s", "activation": "rellu"}, "no activation 'rellu'. Did you mean 'relu'"),
        ({"model": "efficientnet_lite0", "unfreeze": "last-40"}, "last-40', but the body has 9 stages"),
        ({"model": "efficientnet_lite0", "unfreeze": "blocks.77"}, "no layer to unfreeze from 'blocks.77'"),
        ({"model": "efficientnet_lite0", "cut": 30}, "has 9 stages, so it can't be cut to 30"),
        ({"model": "squeezenet1_1", "width": 0.5}, "width: only the model 'household' has such options"),
        ({"model": "household", "block": "fir"}, "household can't have block fir"),
        ({"model": "household_s", "learning_rate": -1}, "needs learning_rate above 0"),
        ({"model": "household_s", "schedule": "cosin"}, "no schedule 'cosin'. Did you mean 'cosine'"),
        ({"model": "household_s", "unfreeze": "none"}, "A frozen body needs weights"),
        ({"model": "timm/resnet17"}, "resnet17"),
        ({"model": "household_s", "head_layers": 9}, "head_layers"),
    ],
)
def test_what_no_network_can_be_is_refused_before_anything_trains(tmp_path, defaults, message):
    parameters = {"batch_size": {"type": "int", "low": 16, "high": 32}}
    with pytest.raises(UsageError, match=message):
        load_space(written(tmp_path, parameters=parameters, defaults={"loss": "hard", **defaults}))


def test_another_activation_on_pretrained_weights_is_warned_of(tmp_path):
    model = {"type": "categorical", "choices": ["efficientnet_lite0_cut2"]}
    activation = {"type": "categorical", "choices": ["silu"]}
    space = space_of(tmp_path, {"model": model, "activation": activation})
    assert "little of their worth is left" in warnings_of(space)[0]
    assert warnings_of(space_of(tmp_path, {"model": model})) == []


def test_a_setting_that_is_searched_under_a_condition_keeps_its_default_elsewhere(tmp_path):
    parameters = {
        "model": {"type": "categorical", "choices": ["household_s"]},
        "loss": {"type": "categorical", "choices": ["hard", "dkd"]},
        "image_size": {"type": "categorical", "choices": [48], "when": {"loss": "dkd"}},
    }
    space = load_space(written(tmp_path, parameters=parameters, defaults={"image_size": 56}))
    assert space.image_sizes() == [48, 56]
    open_loss = {**parameters, "loss": {**parameters["loss"], "choices": ["hard"], "when": {"seed": 1}}}
    seed = {"type": "int", "low": 0, "high": 1}
    space = load_space(
        written(
            tmp_path,
            parameters={**open_loss, "seed": seed, "image_size": {**parameters["image_size"], "when": {}}},
            defaults={"alpha": 0.5, "temperature": 2},
        )
    )
    assert space.may_need_teacher()


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"model": "inception_v3", "image_size": 64}, "at least 75 px"),
        ({"optimizer": "adamm"}, "no optimizer 'adamm'"),
        ({"model": "densenet"}, "no model 'densenet'"),
    ],
)
def test_a_teacher_that_cannot_be_trained_is_refused_when_it_is_read(tmp_path, teacher, message):
    with pytest.raises(UsageError, match=message):
        load_space(written(tmp_path, teacher=teacher, defaults={"loss": "hard"}))


def test_a_head_that_is_left_out_is_said(tmp_path):
    model = {"type": "categorical", "choices": ["inception_v3"]}
    small = {"type": "categorical", "choices": [80]}
    (said,) = warnings_of(space_of(tmp_path, {"model": model, "image_size": small}))
    assert "auxiliary head" in said
    assert "299" in said
