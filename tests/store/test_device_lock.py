"""Trainings pause while something is measured, and nobody who dies keeps a device: with real processes."""

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hkbench.store import device_lock
from hkbench.store.device_lock import DeviceShare, alone_on, devices_of, warn_unlockable

TRAINER = """
import json, sys, time
from hkbench.store.device_lock import DeviceShare
batch_s, log = float(sys.argv[1]), open(sys.argv[2], "a")
with DeviceShare(sys.argv[3:]) as share:
    while True:
        share.pause()
        begun = time.perf_counter()
        print("began", flush=True)
        while time.perf_counter() - begun < batch_s:
            pass
        print(json.dumps([begun, time.perf_counter()]), file=log, flush=True)
"""
MEASURER = """
import sys, time
from hkbench.store.device_lock import alone_on
with alone_on(sys.argv[1:]):
    print("alone", flush=True)
    time.sleep(600)
"""

IMPATIENT = """
from hkbench.store.device_lock import alone_on
with alone_on(["cpu"], batch_s=0.05) as alone:
    print(alone)
"""


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path))
    device_lock._warn_once.cache_clear()


@pytest.fixture
def start():
    """Start a Python process and wait for its first line."""
    begun = []

    def program(text, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", text, *map(str, arguments)], stdout=subprocess.PIPE, text=True
        )
        begun.append(process)
        assert process.stdout.readline()
        return process

    yield program
    for process in begun:
        process.kill()
        process.communicate()


def batches_of(log):
    """Return the start and the end of each batch, in seconds of a clock that is the same in all processes."""
    lines = log.read_text().splitlines(keepends=True)
    return [tuple(json.loads(line)) for line in lines if line.endswith("\n")]


def goes_on(log, moment):
    """Say whether a batch begins after a moment, waiting for one."""
    late = time.perf_counter() + 20
    while time.perf_counter() < late:
        if any(begun > moment for begun, _ in batches_of(log)):
            return True
        time.sleep(0.01)
    return False


def entered(share):
    """Enter a share in a thread of its own and return what is set once it is held."""
    held = threading.Event()

    def hold():
        with share:
            held.set()

    threading.Thread(target=hold, daemon=True).start()
    return held


def test_no_batch_runs_while_something_is_measured_and_the_wait_is_short(start, tmp_path):
    logs = [tmp_path / "first", tmp_path / "second"]
    for log in logs:
        start(TRAINER, 0.02, log, "cpu")
    measured = []
    for _ in range(3):
        asked = time.perf_counter()
        with alone_on(devices_of(None)) as alone:
            begun = time.perf_counter()
            assert alone
            assert begun - asked < 1
            time.sleep(0.1)
            measured.append((begun, time.perf_counter()))
        assert all(goes_on(log, measured[-1][1]) for log in logs)
    for begun, ended in (batch for log in logs for batch in batches_of(log)):
        assert all(ended <= first or begun >= last for first, last in measured)


def test_a_killed_trainer_frees_its_device_in_the_middle_of_a_batch(start, tmp_path):
    trainer = start(TRAINER, 600, tmp_path / "log", "cpu", "GPU-a")
    with alone_on(devices_of("GPU-a"), batch_s=0.05) as alone:
        assert not alone
    trainer.send_signal(signal.SIGKILL)
    trainer.wait()
    with alone_on(devices_of("GPU-a"), batch_s=5) as alone:
        assert alone


def test_a_killed_measurement_frees_its_device(start):
    measurer = start(MEASURER, "cpu")
    held = entered(DeviceShare(devices_of(None)))
    assert not held.wait(0.1)
    measurer.send_signal(signal.SIGKILL)
    assert held.wait(5)


def test_a_training_on_a_gpu_pauses_for_the_host_and_for_its_own_gpu_alone(start):
    for device, stops in (("cpu", True), ("GPU-a", True), ("GPU-b", False)):
        measurer = start(MEASURER, device)
        held = entered(DeviceShare(devices_of("GPU-a")))
        assert held.wait(0.1 if stops else 5) != stops
        measurer.kill()
        assert held.wait(5)


def test_a_waiting_training_holds_nothing(start):
    start(MEASURER, "GPU-a")
    waiting = entered(DeviceShare(devices_of("GPU-a")))
    assert not waiting.wait(0.05)
    with alone_on(devices_of(None), batch_s=5) as alone:
        assert alone


def test_who_measures_waits_for_another_measurement(start):
    measurer = start(MEASURER, "cpu")
    with alone_on(devices_of(None), turn_s=0.05) as alone:
        assert not alone
    measurer.kill()
    with alone_on(devices_of(None), turn_s=5) as alone:
        assert alone


def test_a_thread_that_shares_a_device_can_measure_on_it_and_shares_it_again(start):
    with DeviceShare(devices_of(None)):
        with alone_on(devices_of(None), batch_s=5) as alone:
            assert alone
            with alone_on(devices_of("GPU-a")) as nested:
                assert nested
            with DeviceShare(devices_of(None)) as inner:
                inner.pause()
            held = entered(DeviceShare(devices_of(None)))
            assert not held.wait(0.05)
        assert held.wait(5)
        others = subprocess.run([sys.executable, "-c", IMPATIENT], capture_output=True, text=True, check=True)
        assert others.stdout.strip() == "False"


def test_a_gpu_s_work_is_finished_before_the_device_is_left(start):
    finished = []
    share = DeviceShare(devices_of("GPU-a"), finish=lambda: finished.append(True))
    with share:
        share.pause()
        assert not finished  # nobody waits, so there is nothing to wait for
        with alone_on(devices_of(None)):
            assert finished == [True]
    assert finished == [True, True]


def test_a_pause_doesn_t_count_as_time(start):
    share = DeviceShare(devices_of(None))
    measurer = start(MEASURER, "cpu")
    begun, by_share = time.perf_counter(), share.clock()
    threading.Timer(0.3, measurer.kill).start()
    with share:
        assert time.perf_counter() - begun >= 0.3
        assert share.clock() - by_share < 0.2


def test_a_training_goes_on_beside_a_measurement_that_was_stopped_and_says_so(start, caplog):
    start(MEASURER, "cpu")
    share = DeviceShare(devices_of(None), patience_s=0.05)
    with share:
        share.pause()
    with share:  # it doesn't wait once more
        pass
    assert [record.getMessage() for record in caplog.records] == [
        "Somebody has measured on cpu for over 0.05 s; the training goes on beside it."
    ]


OPEN_FILES = """
from pathlib import Path
print([file for file in Path("/proc/self/fd").iterdir() if "devices" in str(file.resolve())])
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_files_are_closed_and_a_program_that_is_started_inherits_none():
    def open_files():
        return [file for file in Path("/proc/self/fd").iterdir() if "devices" in str(file.resolve())]

    with DeviceShare(devices_of(None)), alone_on(["GPU-a"]):
        assert len(open_files()) == 4
        done = subprocess.run(
            [sys.executable, "-c", OPEN_FILES], capture_output=True, text=True, close_fds=False
        )
    assert done.stdout.strip() == "[]"
    assert open_files() == []


def fails(*_):
    raise OSError(95, "Operation not supported")


@pytest.mark.parametrize("lacking", ["flock", "folder", "fcntl"])
def test_without_locks_nothing_is_kept_out_and_that_is_said_once(lacking, monkeypatch, caplog, tmp_path):
    if lacking == "flock":
        monkeypatch.setattr(device_lock.fcntl, "flock", fails)
    elif lacking == "fcntl":
        monkeypatch.setattr(device_lock, "fcntl", None)
    else:
        (tmp_path / "devices").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        warn_unlockable(devices_of(None))
        with DeviceShare(devices_of(None)) as share:
            share.pause()
            with alone_on(devices_of(None)) as alone:
                assert alone
    (said,) = caplog.messages
    assert said.startswith("Trainings can't be paused while something is measured (")


def test_machines_that_share_a_cache_have_a_host_each(tmp_path, monkeypatch):
    def files():
        return {path.name for path in (tmp_path / "devices").iterdir()}

    with alone_on(devices_of("GPU-a")):
        first = files()
    device_lock._on_this_machine.cache_clear()
    monkeypatch.setattr(device_lock, "BOOT", Path("/nowhere"))
    with alone_on(devices_of("GPU-a")):
        second = files()
    device_lock._on_this_machine.cache_clear()
    assert {"GPU-a.gate", "GPU-a.lock"} <= first
    assert len(second - first) == 2
    assert all(name.startswith("cpu-") for name in second - first)
