"""How many views a search has: no more than its trials see, and no more than the teacher has time for."""

import numpy as np
import pytest
from search_fakes import tiny_plan

from hkbench.data.splits import Split
from hkbench.runs import views as views_module
from hkbench.runs.views import MOST_VIEWS, number_of_views

SPLIT = Split(
    scheme="random", seed=0, hash="split", train=np.arange(40), validation=np.arange(5), test=np.arange(5)
)


class Pass:
    """A teacher that takes so many seconds over a view."""

    key = "teacher"

    def __init__(self, seconds, made=False):
        self.seconds, self.made, self.timed = seconds, made, 0

    def has(self, views):
        return self.made

    def seconds_a_view(self, views):
        self.timed += 1
        return self.seconds


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(views_module, "epoch_seconds", lambda plan, *_: 10.0 / plan.space.schedule.max_epochs)

    def ask(teacher_pass, epochs=30, concurrency=1):
        schedule = {"trials": 3, "max_epochs": epochs}
        plan = tiny_plan(tmp_path, concurrency=concurrency, space={"schedule": schedule})
        return number_of_views(plan, teacher_pass, {}, SPLIT)

    return ask


def test_a_fast_teacher_gives_as_many_views_as_trials_have_epochs_and_20_at_most(asked):
    assert asked(Pass(0.1), epochs=6) == 6
    assert asked(Pass(0.1), epochs=100) == MOST_VIEWS == 20


def test_the_pass_takes_no_longer_than_three_trials(asked):
    assert asked(Pass(4.0)) == 7, "3 trials of 10 s, 4 s a view"
    assert asked(Pass(4.0), concurrency=2) == 3, "two trials at once take half the time"
    assert asked(Pass(1000.0), epochs=29) == 1


def test_the_choice_is_kept_for_the_next_search(asked):
    assert asked(Pass(4.0)) == 7
    again = Pass(2.0)
    assert asked(again) == 7
    assert again.timed == 0


def test_nothing_is_timed_where_there_is_no_choice(asked):
    one, made = Pass(4.0), Pass(4.0, made=True)
    assert asked(one, epochs=1) == 1
    assert asked(made, epochs=8) == 8
    assert (one.timed, made.timed) == (0, 0)


def test_a_damaged_choice_is_made_again(asked, tmp_path, caplog):
    assert asked(Pass(4.0)) == 7
    (path,) = (tmp_path / "cache" / "views").glob("number-*.json")
    path.write_text("{")
    again = Pass(4.0)
    assert asked(again) == 7
    assert again.timed == 1
    assert "is damaged and is measured again" in caplog.text
