"""hkbench's own sampler: what it learns from curves, what an improvement is worth, what it proposes."""

import math

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hkbench.sampling.candidates import MOST, NEIGHBOURS, Candidates
from hkbench.sampling.curves import CurveModel, Observations, mean_curve
from hkbench.sampling.features import Features
from hkbench.sampling.foresight import Foresight
from hkbench.sampling.improvement import ROOM, Frontier
from hkbench.sampling.proposer import FrontierProposer, unsuited
from hkbench.spaces.space import Space
from hkbench.study.points import point_key

LAST = 9
COSTS = {"household_s": 1e5, "household_m": 4e5, "squeezenet1_1": 3e6}
WORTH = {"household_s": 0.4, "household_m": 0.6, "squeezenet1_1": 0.8}
RATES = [0.001, 0.002, 0.004, 0.008, 0.016]


def space_of(**changes):
    found = {
        "name": "small",
        "about": "for tests",
        "parameters": {
            "model": {"type": "categorical", "choices": list(COSTS)},
            "learning_rate": {"type": "categorical", "choices": RATES},
            "optimizer": {"type": "categorical", "choices": ["adamw", "muon"]},
        },
        "objectives": {"accuracy": "maximize", "artifact_bytes": "minimize"},
        "schedule": {"max_epochs": LAST},
        "defaults": {"loss": "hard", "image_size": 32},
    }
    return Space.model_validate(found | changes)


def costs_of(point):
    return {"artifact_bytes": COSTS[point["model"]]}


def loss_after(point, epoch):
    """The truth of these tests: best at a rate of 0.004 with muon."""
    off = abs(math.log2(point["learning_rate"] / 0.004)) * 0.05 + 0.05 * (point["optimizer"] == "adamw")
    return -(WORTH[point["model"]] - off) * math.sqrt(epoch / LAST)


def searched(space, trials, seed=0, costs=costs_of):
    """Train so many proposals one after the other; return the points."""
    foresight, tried, points = Foresight(space, seed), set(), []
    proposer = FrontierProposer(space, foresight, costs, seed)
    for number in range(trials):
        proposal = proposer.propose(tried)
        if proposal is None:
            break
        tried.add(point_key(proposal.params))
        points.append(proposal.params)
        train(foresight, number, proposal.params)
    return points


def train(foresight, number, params, epochs=LAST, *, thaws=None, state="complete"):
    """Tell of a trial that ends after so many epochs."""
    foresight.started(number, params, thaws)
    for epoch in range(1, epochs + 1):
        foresight.trained(number, epoch, loss_after(params, epoch))
    foresight.ended(number, state)


def best_points(space):
    return [
        point for point in space.points() if point["learning_rate"] == 0.004 and point["optimizer"] == "muon"
    ]


@pytest.mark.parametrize("seed", range(3))
def test_the_best_of_each_architecture_is_found_in_half_of_the_points(seed):
    space = space_of()
    found = searched(space, 15, seed)
    assert all(point in found for point in best_points(space))


def test_every_point_is_proposed_once_and_then_nothing():
    points = searched(space_of(), 99)
    assert len(points) == 30
    assert len({point_key(point) for point in points}) == 30


def test_the_first_points_are_of_different_architectures():
    assert {point["model"] for point in searched(space_of(), 3)} == set(COSTS)


def test_trials_that_start_together_differ():
    space = space_of()
    foresight, tried, points = Foresight(space, 0), set(), []
    proposer = FrontierProposer(space, foresight, costs_of, 0)
    for number, point in enumerate(space.points()[::4]):
        train(foresight, number, point)
        tried.add(point_key(point))
    for number in range(20, 23):
        proposal = proposer.propose(tried)
        foresight.started(number, proposal.params)
        tried.add(point_key(proposal.params))
        points.append(point_key(proposal.params))
    assert len(set(points)) == 3


def test_what_breaks_a_limit_is_not_proposed():
    points = searched(space_of(), 99, costs=lambda p: None if p["model"] == "squeezenet1_1" else costs_of(p))
    assert {point["model"] for point in points} == {"household_s", "household_m"}


def all_stopped(epochs):
    """Return a proposer of a space whose points were all tried, and stopped after so many epochs."""
    space = space_of()
    foresight = Foresight(space, 0)
    for number, point in enumerate(space.points()):
        train(foresight, number, point, epochs, state="stopped")
    tried = {point_key(point) for point in space.points()}
    return FrontierProposer(space, foresight, costs_of, 0), foresight, tried


def test_when_nothing_else_is_left_the_best_of_the_stopped_are_thawed():
    proposer, foresight, tried = all_stopped(3)
    proposal = proposer.propose(tried)
    assert proposal.params == foresight.trials[proposal.thaws].params
    assert proposal.params in best_points(space_of())


def test_stopped_trials_are_thawed_until_none_may_end_on_the_frontier():
    proposer, foresight, tried = all_stopped(3)
    thawed = []
    while (proposal := proposer.propose(tried)) is not None:
        thawed.append(proposal.params)
        train(foresight, 100 + len(thawed), proposal.params, thaws=proposal.thaws)
        assert proposal.thaws not in foresight.trials
    assert all(point in thawed for point in best_points(space_of()))
    assert len(thawed) < 20


def test_a_trial_that_failed_is_neither_thawed_nor_learned_from():
    proposer, foresight, tried = all_stopped(3)
    for number in range(30):
        foresight.ended(number, "gone")
    assert proposer.propose(tried) is None


@pytest.mark.parametrize(
    ("objectives", "why"),
    [
        ({"accuracy": "maximize", "log_loss": "minimize"}, "has 2"),
        ({"artifact_bytes": "minimize"}, "has 0"),
        ({"accuracy": "maximize"}, None),
    ],
)
def test_what_it_suits(objectives, why):
    found = unsuited(space_of(objectives=objectives))
    assert found is None if why is None else why in found


# The improvement


def dominated_volume(losses, costs, worst):
    if not len(losses):
        return 0.0
    points = np.column_stack([losses, costs])
    return moocore.hypervolume(points, ref=np.array([worst] + [1 + ROOM] * costs.shape[1]))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(0, 8), st.integers(1, 3))
def test_a_certain_improvement_is_the_added_hypervolume(seed, known, width):
    rng = np.random.default_rng(seed)
    losses, costs = -rng.random(known), rng.random((known, width)).round(1)
    mine, at = -rng.random(), rng.random(width).round(1)
    frontier = Frontier(losses=losses, costs=costs, worst_loss=0.0)
    (found,) = frontier.expected_improvement(at, np.array([mine]), np.array([1e-9]))
    before = dominated_volume(losses, costs, 0.0)
    after = dominated_volume(np.append(losses, mine), np.vstack([costs, at]), 0.0)
    assert found == pytest.approx(after - before, abs=1e-6)


def test_an_uncertain_improvement_is_the_mean_over_what_may_come():
    rng = np.random.default_rng(0)
    frontier = Frontier(
        losses=np.array([-0.5, -0.7]), costs=np.array([[0.2, 0.3], [0.6, 0.5]]), worst_loss=0.0
    )
    at, mean, deviation = np.array([0.3, 0.4]), -0.55, 0.1
    (found,) = frontier.expected_improvement(at, np.array([mean]), np.array([deviation]))
    before = dominated_volume(frontier.losses, frontier.costs, 0.0)
    drawn = [
        dominated_volume(np.append(frontier.losses, loss), np.vstack([frontier.costs, at]), 0.0) - before
        for loss in np.minimum(rng.normal(mean, deviation, 4000), 0)
    ]
    assert found == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / math.sqrt(4000))


# The curves


def curves_of(space, points, epochs_of):
    rows = Features(space).rows(points)
    picked = [(at, e) for at, point in enumerate(points) for e in range(1, epochs_of(at) + 1)]
    return Observations(
        points=rows,
        epochs=np.array([float(e) for _, e in picked]),
        values=np.array([loss_after(points[at], e) for at, e in picked]),
        trials=np.array([at for at, _ in picked]),
    )


def test_the_model_predicts_the_end_of_curves_and_knows_where_it_is_unsure():
    space = space_of()
    points = space.points()
    model = CurveModel(Features(space).groups, LAST)
    seen = curves_of(space, points[::2], lambda at: LAST if at % 2 else 3)
    model.fit(seen)
    mean, deviation = model.predict(seen, Features(space).rows(points))
    truth = np.array([loss_after(point, LAST) for point in points])
    assert np.abs(mean - truth).mean() < 0.05
    assert (np.abs(mean - truth) < 3 * deviation + 0.02).mean() > 0.9
    assert deviation[::2][1::2].mean() < deviation[1::2].mean()


def test_trials_that_were_stopped_early_do_not_pull_the_mean_curve_down():
    values = {0: [0.1, 0.3, 0.5], 1: [0.0], 2: [0.0], 3: [0.0]}
    seen = Observations(
        points=np.zeros((4, 1)),
        epochs=np.array([1.0, 2, 3, 1, 1, 1]),
        values=np.array([each for curve in values.values() for each in curve]),
        trials=np.array([0, 0, 0, 1, 2, 3]),
    )
    mean, _ = mean_curve(seen, 3)
    assert mean[1:] == pytest.approx([0.025, 0.225, 0.425])


# Features and candidates


def test_numbers_keep_their_order_and_names_have_none():
    space = space_of()
    rows = Features(space).rows(space.points())
    assert rows.shape == (30, 3 + 1 + 2)
    assert sorted(set(rows[:, 3])) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert (rows[:, :3].sum(axis=1) == 1).all()


def test_an_absent_parameter_lies_in_the_middle():
    parameters = {
        "model": {"type": "categorical", "choices": list(COSTS)},
        "loss": {"type": "categorical", "choices": ["kd", "hard"]},
        "temperature": {"type": "float", "low": 1, "high": 16, "log": True, "when": {"loss": "kd"}},
        "alpha": {"type": "float", "low": 0, "high": 1, "when": {"loss": "kd"}},
    }
    space = space_of(parameters=parameters)
    one = {"model": "household_s", "loss": "hard"}
    other = {"model": "household_s", "loss": "kd", "temperature": 4, "alpha": 0.25}
    rows = Features(space).rows([one, other])
    assert rows[:, 5].tolist() == [0.5, 0.5]
    assert rows[:, 6].tolist() == [0.5, 0.25]


def test_a_space_without_an_end_gives_valid_candidates_near_the_best():
    parameters = {
        "model": {"type": "categorical", "choices": list(COSTS)},
        "loss": {"type": "categorical", "choices": ["kd", "hard"]},
        "temperature": {"type": "float", "low": 1, "high": 10, "log": True, "when": {"loss": "kd"}},
        "alpha": {"type": "float", "low": 0, "high": 0.9, "step": 0.1, "when": {"loss": "kd"}},
        "batch_size": {"type": "int", "low": 16, "high": 128, "step": 16},
    }
    space = space_of(parameters=parameters)
    leader = {"model": "household_s", "loss": "kd", "temperature": 3.0, "alpha": 0.3, "batch_size": 64}
    found = Candidates(space).untried([leader] * 6, set(), np.random.default_rng(0))
    assert MOST / 2 < len(found) <= MOST + 6 * NEIGHBOURS
    for point in found:
        assert all(space.parameters[name].holds(value) for name, value in point.items())
        assert ("temperature" in point) == (point["loss"] == "kd")
    anywhere = Candidates(space).untried([], set(), np.random.default_rng(0))
    taught = [
        [point["model"] == "household_s" for point in each if "alpha" in point] for each in (found, anywhere)
    ]
    assert np.mean(taught[0]) > np.mean(taught[1]) + 0.05


def test_candidates_that_were_tried_are_left_out():
    space = space_of()
    tried = {point_key(point) for point in space.points()[1:]}
    assert Candidates(space).untried([], tried, np.random.default_rng(0)) == space.points()[:1]
