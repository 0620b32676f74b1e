"""Ray's processes end with a search; what was there before it stays."""

import subprocess
import sys

import psutil
import pytest

from hkbench.search import ray_runtime


@pytest.fixture
def sleeping():
    """A function that starts a process of ours, as a pool or Python's own resource tracker would be."""
    started = []

    def start():
        started.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        process.communicate(b"\n")


def test_only_processes_that_came_with_ray_are_ended(sleeping, monkeypatch):
    monkeypatch.setattr(ray_runtime, "GONE_WITHIN_S", 0.1)
    mine = sleeping()
    others = ray_runtime._children()
    assert psutil.Process(mine.pid) in others
    rays = sleeping()
    ray_runtime._shut_down(others)
    assert rays.wait(10) != 0
    assert mine.poll() is None
