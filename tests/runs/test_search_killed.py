"""Searches whose processes are killed or frozen at chosen moments: nothing is lost, nothing is done twice."""

import signal
from collections import Counter

import pytest
from search_command import Place
from search_fakes import draw_pictures, write_space

from hkbench.spaces.file import load_space
from hkbench.store.rundir import RunDirectory
from hkbench.study.ask_tell import AskTell

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EPOCHS = 30
HANGS = """
import sys
from importlib.machinery import PathFinder

class Hanging:
    '''Lets an epoch of hkbench's training hang, while a file says so.'''
    def find_spec(self, name, path=None, target=None):
        if name != "hkbench.training.loop":
            return None
        found = PathFinder.find_spec(name, path, target)
        load = found.loader.exec_module
        def exec_module(module):
            load(module)
            step = module.Training._step
            def stuck(training, batch):
                import os, time
                while training.epoch == 3 and os.path.exists(os.environ["HANGS_WHILE"]):
                    time.sleep(0.1)
                return step(training, batch)
            module.Training._step = stuck
        found.loader.exec_module = exec_module
        return found

sys.meta_path.insert(0, Hanging())
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("killed"))
    schedule = {"trials": 2, "max_epochs": EPOCHS, "grace": EPOCHS}
    place.space = write_space(place.folder, schedule=schedule)
    place.flags = ("--space", place.space, "--data", draw_pictures(place.folder / "pictures", each=12))
    place.flags += ("--views", 1, "--max-concurrent", 1)
    yield place
    for process in place.processes():  # of a test that failed half-way
        process.kill()


def processes(place, name):
    return [process for process in place.processes() if process.name().startswith(name)]


def recorded(out):
    return Counter((row.trial, row.epoch) for row in RunDirectory(out).epochs() if row.trial != "teacher")


def assert_each_counted_once(place, out):
    run = RunDirectory(out)
    trials = run.trials()
    assert {(trial.state, trial.epochs) for trial in trials} == {("COMPLETE", EPOCHS)}
    assert recorded(out) == Counter(
        (trial.number, epoch) for trial in trials for epoch in range(1, EPOCHS + 1)
    )
    study = AskTell.open(out / "study.log", load_space(str(place.space)), seed=0)
    assert study.running() == []
    return trials


def test_a_killed_worker_costs_its_trial_an_epoch_at_most(place):
    out = place.folder / "worker"
    search = place.start(*place.flags, "--out", out)
    search.wait_for("trial 0, epoch 2")
    (worker,) = processes(place, "ray::R")
    worker.kill()
    line = search.wait_for("goes on from epoch")
    assert "the worker process was lost" in line
    at = int(line.split("epoch ")[1].split(":")[0])
    assert f"epoch {at + 1} " in search.wait_for("trial 0, epoch")
    search.stop_at_export()
    trials = assert_each_counted_once(place, out)
    assert trials[0].failures == ["the worker process was lost"]
    assert all(trial.failures == [] for trial in trials[1:])


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_without_ray_a_search_ends_in_one_line_and_goes_on_later(place, name):
    out = place.folder / name
    search = place.start(*place.flags, "--out", out)
    search.wait_for("trial 0, epoch 2")
    (process,) = processes(place, name)
    process.kill()
    code, errors = search.end()
    assert code == 1
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith(f"error: Ray's process {name} on this machine has ended")
    assert processes(place, "ray") == []
    assert RunDirectory(out).read_run().status == "interrupted"
    assert RunDirectory(out).trials() == []
    last = max(epoch for trial, epoch in recorded(out) if trial == 0)
    search = place.start(*place.flags, "--out", out, "--resume")
    assert search.wait_for("trial 0, epoch").split("trial 0, ")[1].startswith(f"epoch {last + 1} ")
    search.stop_at_export()
    assert_each_counted_once(place, out)


def test_a_frozen_worker_is_replaced(place):
    out = place.folder / "frozen"
    search = place.start(*place.flags, "--out", out, "--epoch-limit", "5s")
    search.wait_for("trial 0, epoch 2")
    (worker,) = processes(place, "ray::R")
    worker.send_signal(signal.SIGSTOP)
    assert "froze" in search.wait_for("goes on from epoch")
    search.wait_for("trial 0, epoch")
    assert not worker.is_running()
    search.stop_at_export()
    assert "froze" in assert_each_counted_once(place, out)[0].failures[0]


def test_an_epoch_that_hangs_says_where_and_the_search_goes_on(place):
    out, hangs = place.folder / "hung", place.folder / "hangs"
    site = place.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(HANGS)
    hangs.touch()
    search = place.start(
        *place.flags, "--out", out, "--epoch-limit", "5s", PYTHONPATH=str(site), HANGS_WHILE=str(hangs)
    )
    line = search.wait_for("goes on from epoch 3")
    assert "it hung at " in line
    assert "(stuck)" in line
    search.wait_for("goes on from epoch 3")
    hangs.unlink()  # its third attempt is the last
    search.stop_at_export()
    trials = assert_each_counted_once(place, out)
    assert len(trials[0].failures) == 2


def test_a_driver_killed_again_and_again_loses_nothing(place):
    out = place.folder / "driver"
    flags, runs = (*place.flags, "--out", out), 0
    for moment in ("trial 0", "trial 0, epoch 3", "trial 0 done", "trial 1, epoch"):
        search = place.start(*flags, *(("--resume",) if runs else ()))
        search.wait_for(moment)
        search.process.kill()
        search.end()
        runs += (out / "run.json").exists()
    search = place.start(*flags, "--resume")
    search.stop_at_export()
    assert_each_counted_once(place, out)
    assert (out / "checkpoints" / "fence").read_text() == "5\n"
    history = RunDirectory(out).read_run().history
    assert len(history) == 5
    assert all(start.changes == [] for start in history)


@pytest.fixture(scope="module")
def finished(place):
    """A search of two short trials that has come to its end."""
    out = place.folder / "finished"
    flags = (*place.flags, "--set", "schedule.grace=1", "--epochs", 1, "--out", out)
    code, errors = place.run(*flags)
    assert code == 0, errors
    return out, flags


def test_a_finished_search_has_nothing_left_to_do(place, finished):
    out, flags = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    code, errors = place.run(*flags, "--resume")
    assert code == 0
    assert "nothing was left to do" in errors
    assert "…" not in errors
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert {path.name for path in before if before[path] != after.get(path)} <= {"report.html"}


def test_a_finished_search_is_extended_by_trials_under_another_sampler(place, finished):
    out, flags = finished
    code, errors = place.run(*flags, "--resume", "--trials", "+2", "--sampler", "random")
    assert code == 0, errors
    run = RunDirectory(out)
    record = run.read_run()
    searched = [trial for trial in run.trials() if not (trial.seed_point or "").startswith("twin")]
    assert len(searched) == 4
    assert record.history[-1].changes == ["sampler: tpe → random", "space.schedule.trials: 2 → 4"]
    assert record.status == "finished"
    shipped = {model.trial for model in run.model_records() if model.trial is not None}
    assert shipped <= {trial.number for trial in run.trials()}
    code, errors = place.run(*flags, "--resume", "--epochs", 2)
    assert code == 2
    assert "space.schedule.max_epochs is 1, asked for 2" in errors
