"""The recorded tables, and searches replayed over them."""

import math

import numpy as np
import pytest

from benchmarks.tabular.budget import course_of
from benchmarks.tabular.ours import Hkbench
from benchmarks.tabular.simulator import Asked, replay
from benchmarks.tabular.table import FOLDER, load_table
from hkbench.spaces.file import load_space

TABLES = sorted(path.name.removesuffix(".json.gz") for path in FOLDER.glob("*.json.gz"))


@pytest.fixture(scope="module")
def table():
    return load_table("untaught")


class InOrder:
    """A strategy that asks for rows in a given order, and stops each trial after some epochs."""

    def __init__(self, table, rows, epochs=None):
        self.table, self.rows, self.epochs = table, list(rows), epochs or table.max_epochs
        self.heard, self.ends, self.key = [], [], 0

    def suggest(self):
        if not self.rows:
            return None
        self.key += 1
        return Asked(key=self.key, params=self.table.rows[self.rows.pop(0)].params)

    def on_epoch(self, key, epoch, values):
        self.heard.append((key, epoch, values["accuracy"]))
        return epoch < self.epochs

    def on_end(self, key, epoch, values, complete):
        self.ends.append((key, epoch, complete))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_holds_every_point_of_its_space_with_a_whole_curve(name):
    table = load_table(name)
    assert table.space == load_space(str(FOLDER / f"{name}.yaml"))
    points = table.space.points()
    assert len(points) == len(table.rows)
    assert sorted(table.find(point) for point in points) == list(range(len(points)))
    assert {len(row.accuracy) for row in table.rows} == {table.space.schedule.max_epochs}
    assert all(0 < each < 1 for row in table.rows for each in row.accuracy)
    assert table.final.min() == pytest.approx(0)
    assert table.final.max() == pytest.approx(1)
    architectures = {tuple(row.costs.values()) for row in table.rows}
    assert len(architectures) >= 3


def test_every_epoch_is_heard_once_in_order_and_counted(table):
    strategy = InOrder(table, [0, 1, 2])
    done = replay(table, strategy, concurrency=2)
    assert done.epochs == 3 * table.max_epochs
    assert strategy.ends == [(key, table.max_epochs, True) for key, _, _ in strategy.ends]
    for key in (1, 2, 3):
        heard = [(epoch, value) for known, epoch, value in strategy.heard if known == key]
        assert heard == list(enumerate(table.rows[key - 1].accuracy, start=1))[:-1]


def test_trials_side_by_side_take_the_time_of_the_longer(table):
    alone = sum(sum(table.rows[row].seconds) for row in (0, 1))
    together = max(sum(table.rows[row].seconds) for row in (0, 1))
    assert replay(table, InOrder(table, [0, 1]), concurrency=1).seconds == pytest.approx(alone)
    assert replay(table, InOrder(table, [0, 1]), concurrency=2).seconds == pytest.approx(together)


def test_an_equal_point_is_answered_from_the_record(table):
    strategy = InOrder(table, [0, 0, 0])
    done = replay(table, strategy, concurrency=1)
    assert (done.epochs, done.asks, done.repeats) == (table.max_epochs, 3, 2)
    assert [row for _, row in done.finished] == [0, 0, 0]


def test_a_stopped_trial_costs_what_it_trained(table):
    strategy = InOrder(table, [0, 1], epochs=3)
    done = replay(table, strategy, concurrency=2)
    assert done.epochs == 6
    assert done.finished == []
    assert {end[1:] for end in strategy.ends} == {(3, False)}


def test_all_points_reach_the_whole_hypervolume(table):
    course = course_of(table, InOrder(table, range(len(table.rows))))
    assert course.end == pytest.approx(1)
    assert course.epochs_to(1.01) == math.inf
    assert course.epochs_to(0.5) < course.epochs_to(0.99) <= len(table.rows) * table.max_epochs


def test_our_search_gets_there_in_far_fewer_epochs_than_chance(table):
    rows = np.random.default_rng(0).permutation(len(table.rows))
    by_chance = course_of(table, InOrder(table, rows), until=0.95).epochs_to(0.95)
    ours = course_of(table, Hkbench(table, 0), until=0.95).epochs_to(0.95)
    assert ours < by_chance / 2


def test_a_replay_of_the_same_seed_is_the_same(table):
    first, second = (course_of(table, Hkbench(table, 3), asks=20).reached for _ in range(2))
    assert first == second
    assert first != course_of(table, Hkbench(table, 4), asks=20).reached
