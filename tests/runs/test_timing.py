"""How long an epoch takes decides how many fit in a budget; what is timed is what a trial does."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from search_fakes import tiny_plan
from training_fakes import bright_pictures, three_parts

from hkbench.driver.plan import as_recorded
from hkbench.runs import timing
from hkbench.runs.timing import epoch_seconds, within_budget


@pytest.fixture
def stores(tmp_path):
    return {32: bright_pictures(tmp_path / "cache")}


def plan_of(folder, **defaults):
    model = {"type": "categorical", "choices": [defaults.pop("model", "household_s")]}
    settings = {"image_size": 32, "batch_size": 16, "loss": "hard", **defaults}
    return tiny_plan(folder, space={"parameters": {"model": model}, "start_with": [], "defaults": settings})


@pytest.mark.parametrize(
    "defaults",
    [{}, {"gradual_epochs": 2}, {"model": "efficientnet_lite0_cut2", "unfreeze": "none"}, {"batch_size": 50}],
)
def test_an_epoch_takes_a_time_whatever_is_trained(tmp_path, stores, defaults):
    assert 0 < epoch_seconds(plan_of(tmp_path, **defaults), stores, three_parts()) < 60


def test_a_budget_becomes_as_many_epochs_as_fit_and_one_at_least(tmp_path, stores, monkeypatch):
    monkeypatch.setattr(timing, "epoch_seconds", lambda *_: 10.0)
    plan = plan_of(tmp_path)
    for budget_s, epochs in ((100.0, 9), (3.0, 1)):
        fitted = within_budget(_with(plan, budget_s), stores, three_parts())
        assert (fitted.space.schedule.max_epochs, fitted.space.schedule.grace) == (epochs, epochs)
    assert within_budget(plan, stores, three_parts()) is plan


def test_a_resumed_training_keeps_the_epochs_on_record(tmp_path):
    record = SimpleNamespace(config={"space": {"schedule": {"max_epochs": 7}}})
    plan = plan_of(tmp_path)
    assert as_recorded(_with(plan, 100.0), record).space.schedule.max_epochs == 7
    assert as_recorded(plan, record) is plan


def _with(plan, budget_s):
    return replace(plan, fitted_s=budget_s)
