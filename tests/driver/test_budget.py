"""What a search may spend, over all of its runs."""

import pytest

from hkbench.driver.budget import Budget, Spending, parse_budget, parse_duration
from hkbench.errors import UsageError
from hkbench.store.records import Usage


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), (" 2 m ", 120)])
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["10", "m", "-3m", "0s", "ten minutes", "20 epochs"])
def test_bad_durations_show_a_good_one(text):
    with pytest.raises(UsageError, match="such as 10m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("10m", Budget(amount=600, unit="seconds")),
        ("200 epochs", Budget(amount=200, unit="epochs")),
        ("600 gpu-s", Budget(amount=600, unit="gpu_seconds")),
    ],
)
def test_a_budget_is_read_as_it_is_written(text, budget):
    assert parse_budget(text) == budget
    assert parse_budget(str(budget)) == budget


def test_a_budget_grows_in_its_own_unit_alone():
    assert str(parse_budget("10m").extended(parse_budget("1h"))) == "4200s"
    with pytest.raises(UsageError, match="has a budget of 600s"):
        parse_budget("10m").extended(parse_budget("10 epochs"))


def test_time_of_earlier_runs_is_their_epochs_over_the_trials_at_once():
    clock = Clock()
    spending = Spending(2, clock)
    for _ in range(10):
        spending.note(4.0, None)
    spending.begin(parse_budget("30s"))
    assert (spending.spent, spending.left) == (20, 10)
    clock.now += 7
    assert spending.left == 3
    assert not spending.allows_another(live=0)  # an epoch takes 4 s
    clock.now += 3
    assert spending.over


def test_what_earlier_runs_took_is_on_record_however_many_trials_went_on_at_once():
    clock = Clock()
    spending = Spending(1, clock)  # of a cluster whose size isn't known beforehand
    for number in range(12):
        spending.note(10.0, None, search_seconds=10.0 * (1 + number // 6))
    spending.begin(parse_budget("30s"))
    clock.now += 4
    assert (spending.elapsed_s, spending.left) == (24, 6)
    spending.note(10.0, None)
    spending.lift()
    assert (spending.elapsed_s, spending.left) == (24, float("inf"))


def test_epochs_and_gpu_seconds_are_counted_as_they_come():
    usage = Usage(seconds=1, gpu_seconds=0.5)
    spending = Spending(4)
    spending.note(1.0, usage)
    spending.begin(parse_budget("4 epochs"))
    assert spending.left == 3
    assert spending.allows_another(live=2)
    assert not spending.allows_another(live=3)
    spending.begin(parse_budget("1 gpu-s"))
    assert spending.left == 0.5
    spending.note(1.0, usage)
    assert spending.over


def test_without_a_budget_nothing_ends():
    spending = Spending(1)
    spending.note(1e9, None)
    assert not spending.over
    assert spending.allows_another(live=100)
