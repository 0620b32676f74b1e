"""Epochs that take too long: found by the worker itself, or by the driver."""

import subprocess
import sys

import pytest

from hkbench.driver.watch import LATER_S, SETUP_LIMIT_S, SHORTEST_LIMIT_S, EpochLimit, Watch
from hkbench.spaces.settings import settings_of
from hkbench.trials.watchdog import SLOW_STEP_S, hang_file, step_limit, take_hang, watchdog

HARD = settings_of({"model": "household_s", "loss": "hard"})
HANGS = """
import sys, time
from pathlib import Path
from hkbench.trials.watchdog import watchdog
def stuck():
    with watchdog(Path(sys.argv[1]), 0.5):
        sum(range(10**12)) if sys.argv[2] == "busy" else time.sleep(600)
stuck()
"""


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def after(watch, clock, seconds):
    """Let the driver look ten times a second for so long; return what was overdue at the end."""
    found = []
    for _ in range(round(seconds * 10)):
        clock.now += 0.1
        found = watch.look()
    return found


@pytest.fixture
def clock():
    return Clock()


def watch_with(clock, limit_s, max_epochs=9):
    return Watch(EpochLimit(limit_s), max_epochs, clock)


def test_a_worker_that_reports_nothing_is_overdue_after_its_limit_and_a_while(clock):
    watch = watch_with(clock, 10)
    watch.began(4, "m", HARD, 0)
    watch.reported(4, None)
    assert after(watch, clock, 10 + LATER_S - 1) == []
    assert after(watch, clock, 2) == [4]
    watch.reported(4, 1)
    assert after(watch, clock, 5) == []
    watch.ended(4)
    assert after(watch, clock, 100) == []


def test_the_time_in_which_the_driver_did_not_look_does_not_count(clock):
    watch = watch_with(clock, 10)
    watch.began(4, "m", HARD, 0)
    watch.reported(4, None)
    for _ in range(5):  # the machine slept, or the clock jumped
        clock.now += 3600
        assert watch.look() == []
    clock.now -= 10_000
    assert watch.look() == []


def test_building_a_trial_has_time_of_its_own(clock):
    watch = watch_with(clock, 10)
    watch.began(4, "m", HARD, 0)
    assert after(watch, clock, 100) == []
    assert after(watch, clock, SETUP_LIMIT_S) == [4]


def test_the_limit_is_learned_from_the_epochs_of_the_architecture():
    limit = EpochLimit(None)
    for seconds in (1.0, 1.0):
        limit.note("small", seconds)
    assert limit.of("small") is None
    limit.note("small", 1.0)
    assert limit.of("small") == SHORTEST_LIMIT_S
    for seconds in (10.0, 12.0, 400.0):
        limit.note("large", seconds)
    assert limit.of("large") == 240
    assert EpochLimit(7.0).of("large") == 7


def test_compiling_and_the_scoring_of_a_shipped_file_take_longer():
    compiled, narrow = (
        HARD.model_copy(update=change) for change in ({"compiled": True}, {"precision": "int8"})
    )
    assert step_limit(10, HARD, first=True, last=True) == 10
    assert step_limit(10, compiled, first=True, last=False) == 10 + SLOW_STEP_S
    assert step_limit(10, compiled, first=False, last=True) == 10
    assert step_limit(10, narrow, first=False, last=True) == 10 + SLOW_STEP_S
    assert step_limit(None, narrow, first=True, last=True) is None


@pytest.mark.parametrize("how", ["busy", "asleep"])
def test_a_process_that_hangs_ends_itself_and_says_where(tmp_path, how):
    path = hang_file(tmp_path, 7)
    ended = subprocess.run([sys.executable, "-c", HANGS, str(path), how], check=False, timeout=60)
    assert ended.returncode == 1
    assert path.name == "00007.hung"
    said = take_hang(path)
    assert said is not None
    assert not path.exists()
    assert take_hang(path) is None


def test_the_innermost_of_our_own_frames_is_named(tmp_path):
    path = tmp_path / "00001.hung"
    path.write_text(
        "Timeout (0:00:10)!\n"
        "Thread 0x1 (most recent call first):\n"
        '  File "/lib/python3.11/threading.py", line 320 in wait\n'
        "\n"
        "Thread 0x2 (most recent call first):\n"
        '  File "/venv/site-packages/torch/nn/functional.py", line 12 in conv\n'
        '  File "/home/me/hkbench/training/loop.py", line 183 in _step\n'
        '  File "/home/me/hkbench/trials/trial.py", line 80 in results\n'
    )
    assert take_hang(path) == (
        "hkbench/training/loop.py, line 183 (_step), in torch/nn/functional.py, line 12 (conv)"
    )


def test_a_block_that_ends_in_time_leaves_nothing(tmp_path):
    path = tmp_path / "x" / "00001.hung"
    with watchdog(path, 60):
        assert path.exists()
    assert not path.exists()
    with watchdog(path, None):
        assert not path.exists()
