"""Spaces made at random: what is drawn is valid, points are all there are, a space survives its file."""

import math
from itertools import product

import optuna
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hkbench.errors import UsageError
from hkbench.spaces.parameters import CategoricalParameter, FloatParameter, is_number
from hkbench.spaces.space import Space

NAMES = ("seed", "batch_size", "width", "momentum", "depth", "beta", "gamma", "alpha")
DRAWS = 12
FEW = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)


def plain_limits(draw, kind, log):
    if kind == "int":
        low = draw(st.integers(1 if log else -3, 4))
        return low, low + draw(st.integers(0, 3))
    low = draw(st.sampled_from([0.1, 0.25, 1.5] if log else [-1.0, 0.0, 0.1, 0.3]))
    return low, low + draw(st.sampled_from([0.0, 0.2, 0.75, 1.0]))


def follow(draw, earlier):
    cause = draw(st.sampled_from(earlier))
    return {
        "of": cause,
        "times": draw(st.sampled_from([-1, 0.5, 1, 3])),
        "plus": draw(st.sampled_from([0, 0.1, 2])),
    }


def values_to_depend_on(parameter, draw):
    if parameter["type"] == "categorical":
        known = parameter["choices"]
    elif isinstance(parameter["low"], dict) or isinstance(parameter["high"], dict):
        known = [1, 2, 3]
    elif parameter["type"] == "int":
        known = list(range(parameter["low"], parameter["high"] + 1, parameter.get("step", 1)))
    else:
        known = [parameter["low"]]
    return draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True))


@st.composite
def parameters(draw, *, ends=False):
    """Parameters of which each may depend on any before it; with `ends` all of them can be listed."""
    found = {}
    names = draw(st.permutations(NAMES))[: draw(st.integers(1, 5))]
    for name in names:
        kind = draw(st.sampled_from(["int", "float", "categorical"]))
        one = found[name] = {"type": kind}
        numeric = [
            each
            for each, other in found.items()
            if each != name and (other["type"] != "categorical" or all(map(is_number, other["choices"])))
        ]
        others = [each for each in found if each != name]
        if kind == "categorical":
            choices = st.sampled_from([1, 2, 4, 0.5, "a", "b", True, "1"])
            one["choices"] = draw(
                st.lists(choices, min_size=1, max_size=3, unique_by=lambda each: (each == 1) or each)
            )
        else:
            step = draw(
                st.sampled_from([None, 2] if kind == "int" else [0.1, 0.25] if ends else [None, 0.1, 0.25])
            )
            log = step is None and draw(st.booleans())
            one["low"], one["high"] = plain_limits(draw, kind, log)
            one |= {"log": log} if log else {"step": step} if step is not None else {}
            if numeric and draw(st.booleans()):
                one[draw(st.sampled_from(["low", "high"]))] = follow(draw, numeric)
        for cause in draw(st.lists(st.sampled_from(others), max_size=2, unique=True)) if others else []:
            one.setdefault("when", {})[cause] = values_to_depend_on(found[cause], draw)
    return found


def space_of(given_parameters):
    """Return the space of these parameters, or None where it is refused, which must be by a UsageError."""
    try:
        return Space.model_validate(
            {
                "name": "random",
                "about": "a test",
                "parameters": {
                    f"p_{name}": {**each, "sets": name} for name, each in renamed(given_parameters).items()
                },
                "objectives": {"accuracy": "maximize"},
                "defaults": {"model": "household_s", "loss": "hard"},
            }
        )
    except UsageError:
        return None


def renamed(given_parameters):
    """Let what parameters depend on go by the names that they have in the space."""
    found = {}
    for name, each in given_parameters.items():
        changed = dict(each)
        if "when" in each:
            changed["when"] = {f"p_{cause}": values for cause, values in each["when"].items()}
        for side in ("low", "high"):
            if isinstance(each.get(side), dict):
                changed[side] = {**each[side], "of": f"p_{each[side]['of']}"}
        found[name] = changed
    return found


spaces = parameters().map(space_of).filter(lambda space: space is not None)
listed_spaces = parameters(ends=True).map(space_of).filter(lambda space: space is not None)


def limit(given_limit, point):
    if isinstance(given_limit, int | float):
        return given_limit
    return given_limit.times * point[given_limit.of] + given_limit.plus


def is_asked_for(parameter, point):
    return all(
        cause in point and point[cause] in (allowed if isinstance(allowed, list) else [allowed])
        for cause, allowed in parameter.when.items()
    )


def is_a_value(parameter, value, point):
    """Say by the definition whether a parameter may have a value in a point."""
    if isinstance(parameter, CategoricalParameter):
        return value in parameter.choices
    low, high = limit(parameter.low, point), limit(parameter.high, point)
    if not low - 1e-9 <= value <= high + 1e-9:
        return False
    if isinstance(parameter, FloatParameter):
        return parameter.step is None or math.isclose(
            math.remainder(value - low, parameter.step), 0, abs_tol=1e-6
        )
    return isinstance(value, int) and (value - math.ceil(low - 1e-9)) % parameter.step == 0


def is_valid(space, point):
    """Say by the definition whether a point is one: what is asked for is there, in range, and no more."""
    return all(
        is_asked_for(parameter, point) == (name in point)
        and (name not in point or is_a_value(parameter, point[name], point))
        for name, parameter in space.parameters.items()
    )


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_every_drawn_point_is_valid(sampler):
    @FEW
    @given(spaces)
    def check(space):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        built = (
            optuna.samplers.RandomSampler(seed=0)
            if sampler == "random"
            else optuna.samplers.TPESampler(multivariate=True, group=True, n_startup_trials=4, seed=0)
        )
        study = optuna.create_study(sampler=built)
        for number in range(DRAWS):
            trial = study.ask()
            point = space.choose(trial)
            assert is_valid(space, point), point
            study.tell(trial, number)

    check()


@FEW
@given(spaces)
def test_every_point_that_a_check_tries_is_valid(space):
    assert is_valid(space, space.completed({}))
    for name, parameter in space.parameters.items():
        if not isinstance(parameter, CategoricalParameter):
            low, high = space.widest(name)
            assert low <= high


@FEW
@given(spaces)
def test_a_space_survives_being_written(space):
    dumped = space.model_dump(mode="json")
    assert Space.model_validate(dumped) == space
    text = yaml.safe_dump(dumped, sort_keys=False, allow_unicode=True)
    again = Space.model_validate(yaml.safe_load(text))
    assert again == space
    assert again.order() == space.order()


def grid(parameter, space, name):
    """Return more than all values that a parameter may have."""
    if isinstance(parameter, CategoricalParameter):
        return parameter.choices
    low, high = space.widest(name)
    if not isinstance(parameter, FloatParameter):
        return range(math.floor(low), math.ceil(high) + 1)
    return None


@FEW
@given(listed_spaces)
def test_points_are_all_that_are_valid(space):
    points = space.points()
    keys = [tuple(sorted(point.items())) for point in points]
    assert len(set(map(str, keys))) == len(keys)
    assert all(is_valid(space, point) for point in points)
    values = {}
    for name, parameter in space.parameters.items():
        found = grid(parameter, space, name)
        if found is None:  # steps from wherever the range begins
            found = {point[name] for point in points if name in point}
        values[name] = [None, *found]
    if math.prod(map(len, values.values())) > 20_000:
        return
    candidates = (
        {name: value for name, value in zip(values, chosen, strict=True) if value is not None}
        for chosen in product(*values.values())
    )
    valid = [tuple(sorted(point.items())) for point in candidates if is_valid(space, point)]
    assert set(map(str, valid)) == set(map(str, keys))


@FEW
@given(parameters())
def test_a_space_is_refused_with_a_usage_error_or_can_be_drawn_from(given_parameters):
    space = space_of(given_parameters)
    if space is not None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        space.choose(optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)).ask())
