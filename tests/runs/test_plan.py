"""How flags become a plan."""

import os

import pytest
from search_fakes import tiny_plan

from hkbench.driver import plan as plan_module
from hkbench.driver.plan import check_device, default_run, packed, threads_beside
from hkbench.errors import UsageError


def test_a_new_search_never_lands_in_an_old_ones_folder(tmp_path):
    assert default_run("distill", resume=False, results=tmp_path).name == "distill"
    (tmp_path / "distill").mkdir()
    (tmp_path / "distill-quick").mkdir()
    assert default_run("distill", resume=False, results=tmp_path).name == "distill-2"
    (tmp_path / "distill-2").mkdir()
    assert default_run("distill", resume=False, results=tmp_path).name == "distill-3"


def test_resume_takes_the_newest_search(tmp_path):
    with pytest.raises(UsageError, match="no search to resume"):
        default_run("distill", resume=True, results=tmp_path)
    for age, name in ((100, "distill"), (200, "distill-2"), (300, "distill-quick")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
        os.utime(tmp_path / name / "run.json", (age, age))
    assert default_run("distill", resume=True, results=tmp_path).name == "distill-2"


def test_a_quick_search_has_fewer_pictures_and_a_hurried_teacher(tmp_path):
    plan, quick = tiny_plan(tmp_path), tiny_plan(tmp_path, quick=True)
    assert plan.train_pictures is None
    assert quick.train_pictures is not None
    (recipe,) = plan.teachers
    assert quick.hurried(recipe).max_epochs < plan.hurried(recipe).max_epochs == recipe.max_epochs


@pytest.mark.parametrize(
    ("device", "message"),
    [("cuda:1", "write cuda, not cuda:1"), ("cuba", "Did you mean 'cuda'"), ("cpu:0", "is not a device")],
)
def test_a_device_that_trials_cannot_have_is_refused(device, message):
    with pytest.raises(UsageError, match=message):
        check_device(device)


def test_trials_at_once_are_what_this_machine_is_fastest_with_and_no_more_than_trials(tmp_path, monkeypatch):
    asked = []

    def best(device, *, cached_only):
        asked.append((device, cached_only))
        return 8, 2

    monkeypatch.setattr(plan_module, "best_packing", best)
    open_plan = tiny_plan(tmp_path, concurrency=None)
    found = packed(open_plan)
    assert (found.concurrency, found.threads) == (open_plan.space.schedule.trials, 2)
    packed(tiny_plan(tmp_path, concurrency=None, quick=True))
    assert asked == [("cpu", False), ("cpu", True)], "a quick search doesn't measure"
    assert packed(tiny_plan(tmp_path, concurrency=1)).concurrency == 1


def test_trials_at_once_that_are_asked_for_share_the_cores(monkeypatch):
    monkeypatch.setattr(plan_module, "usable_cores", lambda: 8)
    assert [threads_beside(trials, "cpu") for trials in (1, 3, 8, 20)] == [8, 2, 1, 1]
    assert threads_beside(4, "cuda") == 8
