"""Ray's processes end with a search; what was there before it stays."""

import socket
import subprocess
import sys

import psutil
import pytest
from filelock import FileLock

from hkbench.driver import ray_runtime


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


def test_a_process_of_rays_that_ends_is_noticed(sleeping, monkeypatch):
    monkeypatch.setattr(ray_runtime, "NEEDED", ("python",))
    process = sleeping()
    runtime = ray_runtime.Runtime([psutil.Process(process.pid)])
    assert runtime.look() is None
    process.kill()
    process.wait(10)
    assert "has ended" in str(runtime.look())
    assert "--resume" in str(runtime.look())
    assert ray_runtime.Runtime().look() is None  # a cluster that is joined isn't ours


def test_a_broken_ray_is_left_without_asking_it(sleeping, monkeypatch):
    at_exit = []
    monkeypatch.setattr(ray_runtime.atexit, "register", at_exit.append)
    process = sleeping()
    monkeypatch.setattr(ray_runtime, "_broken", [])
    ray_runtime._abandon({psutil.Process(process.pid)})
    assert process.wait(10) != 0
    assert at_exit == [ray_runtime._end_without_ray]


def test_the_folders_of_killed_searches_are_removed_and_those_of_live_ones_stay(tmp_path):
    dead, live, others = (tmp_path / name for name in ("hkbench-dead", "hkbench-live", "hkbench-else"))
    for folder in (dead, live, others):
        (folder / "session_1").mkdir(parents=True)
    (dead / ray_runtime.LOCK).touch()
    with FileLock(live / ray_runtime.LOCK):
        ray_runtime._remove_orphans(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"hkbench-live", "hkbench-else"}


def test_nothing_is_lost_because_nobody_looked():
    now = [0.0]
    runtimes = [ray_runtime.Runtime(head=head, clock=lambda: now[0]) for head in (None, "127.0.0.1:1")]
    now[0] += 1000
    assert [runtime.lost for runtime in runtimes] == [None, None]


def test_a_head_that_is_out_of_reach_for_long_ends_the_search():
    with socket.create_server(("127.0.0.1", 0)) as head:
        now = [0.0]
        runtime = ray_runtime.Runtime(head=f"127.0.0.1:{head.getsockname()[1]}", clock=lambda: now[0])
        now[0] += 100
        assert runtime.look() is None
    assert runtime.look() is None  # it may come back
    assert runtime.lost is None
    now[0] += ray_runtime.HEAD_BACK_WITHIN_S + 1
    assert "out of reach" in str(runtime.look())
    assert runtime.lost is not None
