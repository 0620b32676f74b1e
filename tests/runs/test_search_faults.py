"""What goes wrong in a search: trials that fail, workers that die, a full disk, input that can't be used."""

import os
import re
import shutil
import subprocess
from contextlib import suppress

import pytest
from search_command import Place, command_line
from search_fakes import draw_pictures, tiny_plan, write_space

from hkbench.runs.record import held, refuse_foreign
from hkbench.store.rundir import RunDirectory

EPOCHS = 60


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw_pictures(tmp_path_factory.mktemp("faults") / "pictures", each=12)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def flags(place, pictures, trials, epochs=EPOCHS, out=None, **space):
    schedule = {"trials": trials, "max_epochs": epochs, "grace": epochs}
    path = write_space(place.folder, schedule=schedule, **space)
    return ("--space", path, "--data", pictures, "--views", 1, "--out", out or place.out)


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_worker_fails_its_trial_and_the_search_goes_on(place, pictures):
    search = place.start(*flags(place, pictures, trials=4), "--max-failures", 0)
    search.wait_for("trial 0, epoch 2")
    workers = [process for process in place.processes() if process.name().startswith("ray::R")]
    assert workers
    for worker in workers:
        worker.kill()
    search.wait_for("export")
    search.interrupt()
    code, errors = search.end()
    assert code == 130
    assert "Traceback" not in errors
    trials = RunDirectory(place.out).trials()
    failed = [trial for trial in trials if trial.state == "FAIL"]
    assert 1 <= len(failed) <= len(workers)
    assert {trial.reason for trial in failed} == {"the worker process was lost"}
    assert {trial.state for trial in trials} == {"FAIL", "COMPLETE"}


@pytest.mark.ray
@pytest.mark.slow
def test_a_search_whose_trials_all_diverge_ends_with_the_reason(place, pictures):
    diverging = {"image_size": 32, "batch_size": 16, "learning_rate": 1e6}
    code, errors = place.run(*flags(place, pictures, trials=2, defaults=diverging))
    assert code == 4
    assert "Traceback" not in errors
    last = errors.splitlines()[-1]
    assert last.startswith("error: No trial came to its end in ")
    trials = RunDirectory(place.out).trials()
    assert len(trials) == 2
    assert all(trial.state == "FAIL" and trial.reason for trial in trials)
    assert any(trial.reason.rstrip(".") in last for trial in trials)


@pytest.mark.ray
@pytest.mark.slow
def test_a_search_whose_first_trials_fail_alike_stops_before_the_others(place, pictures):
    diverging = {"image_size": 32, "batch_size": 16, "learning_rate": 1e6}
    code, errors = place.run(*flags(place, pictures, trials=30, defaults=diverging))
    assert code == 4
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith(
        "error: The first 5 trials failed, all for the same reason: The "
    )
    run = RunDirectory(place.out)
    assert 5 <= len(run.trials()) < 30
    assert run.read_run().status == "failed"


@pytest.mark.ray
@pytest.mark.slow
def test_a_trial_that_diverges_names_its_step_and_rate_and_the_study_goes_on(place, pictures):
    rates = {"type": "categorical", "choices": [0.01, 1e6], "sets": "learning_rate"}
    model = {"type": "categorical", "choices": ["household_s"]}
    code, errors = place.run(
        *flags(place, pictures, trials=2, epochs=2, parameters={"model": model, "rate": rates}),
        "--set", "start_with=[]", "--set", "defaults.loss=hard",
    )  # fmt: skip
    assert code == 0, errors
    by_rate = {trial.params["rate"]: trial for trial in RunDirectory(place.out).trials()}
    assert by_rate[0.01].state == "COMPLETE"
    assert by_rate[1e6].state == "FAIL"
    assert re.search(r"at step \d+ of epoch 1, at learning rate \S+", by_rate[1e6].reason)


@pytest.mark.ray
@pytest.mark.slow
def test_two_searches_that_start_at_once_share_what_is_made_ahead(place, pictures):
    searches = [
        place.start(*flags(place, pictures, trials=1, epochs=1, out=place.folder / name)) for name in "ab"
    ]
    for search in searches:
        code, errors = search.end()
        assert code == 0, errors
        assert "damaged" not in errors
    for kind in ("logits", "rendered"):
        assert len(list((place.cache / kind).glob("*.npy"))) == 1
    assert len(list((place.cache / "teachers").glob("*/teacher.json"))) == 1
    made = [RunDirectory(place.folder / name).read_run().data for name in "ab"]
    assert made[0] == made[1]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own, 64 MB, that can be filled."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root and mount for a disk of its own")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=False).returncode:
        pytest.skip("needs the right to mount")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(path):
    """Write to a file until its disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1024))


@pytest.mark.ray
@pytest.mark.slow
def test_a_full_disk_is_said_in_one_line_and_the_search_goes_on_when_there_is_room(
    place, pictures, small_disk
):
    out = small_disk / "run"
    command = flags(place, pictures, trials=2, out=out)
    search = place.start(*command)
    search.wait_for("trial 0, epoch 2")
    filling = small_disk / "filling"
    fill(filling)
    code, errors = search.end()
    assert code == 2, errors
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("error: No room on the disk to write ")
    assert (0, 1) in [(row.trial, row.epoch) for row in RunDirectory(out).epochs()]
    filling.unlink()
    search = place.start(*command, "--resume")
    search.wait_for("export")
    search.interrupt()
    assert search.end()[0] == 130
    trials = RunDirectory(out).trials()
    assert {(trial.state, trial.epochs) for trial in trials} == {("COMPLETE", EPOCHS)}


def one_class(pictures):
    shutil.rmtree(pictures / "mug")
    shutil.rmtree(pictures / "rug")


def empty_class(pictures):
    shutil.rmtree(pictures / "mug")
    (pictures / "mug").mkdir()


def two_pictures(pictures):
    for path in sorted((pictures / "mug").iterdir())[2:]:
        path.unlink()


def broken_pictures(pictures):
    for path in sorted((pictures / "mug").iterdir())[:5]:
        path.write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (one_class, "1 class folder(s) ('vase')"),
        (empty_class, "mug has no picture(s)"),
        (two_pictures, "mug has 2 picture(s)"),
        (broken_pictures, "5 of 36 pictures can't be used"),
    ],
)
def test_pictures_that_cannot_be_used_are_refused_and_nothing_is_left(place, pictures, spoil, said):
    spoiled = shutil.copytree(pictures, place.folder / "spoiled")
    spoil(spoiled)
    code, errors = command_line("search", *flags(place, spoiled, trials=1), environment=place.environment)
    assert code == 2
    assert said in errors
    assert [line for line in errors.splitlines() if "…" not in line] == errors.splitlines()[-1:]
    assert not place.out.exists()
    # The same --out takes the pictures once they are mended: nothing is in its way.
    code, errors = command_line(
        "search", *flags(place, spoiled, trials=1), "--resume", environment=place.environment
    )
    assert (code, "holds no search to resume" in errors) == (2, True)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--space", "distil"), "Did you mean 'distill'?"),
        (("--data", "goods96"), "Did you mean 'goods69'?"),
        (("--set", "schedule.max_epoch=3"), "max_epochs"),
        (("--set", "teacher.model=household_mm"), "Did you mean 'household_m'?"),
        (("--set", "schedule"), "--set takes key=value"),
        (("--budget", "soon"), "A budget is a number"),
        (("--split", "by-group"), "--group-by"),
    ],
)
def test_names_and_keys_that_are_unknown_are_refused_in_one_line(place, pictures, more, said):
    code, errors = command_line(
        "search", *flags(place, pictures, trials=1), *more, environment=place.environment
    )
    assert code == 2
    assert said in errors
    assert [line for line in errors.splitlines() if "…" not in line] == errors.splitlines()[-1:]
    assert not place.out.exists()


def test_what_a_kill_left_of_the_first_record_is_no_file_of_the_users(tmp_path):
    plan = tiny_plan(tmp_path)
    run = RunDirectory(plan.out)
    plan.out.mkdir()
    (plan.out / ".run.json.123.tmp").write_text("{")
    assert refuse_foreign(plan, run) == []
    with held(run):
        pass
    assert not plan.out.exists()


def test_a_folder_with_files_of_the_users_own_is_not_written_to(place, pictures):
    place.out.mkdir()
    (place.out / "mine.txt").write_text("mine")
    code, errors = command_line("search", *flags(place, pictures, trials=1), environment=place.environment)
    assert code == 2
    assert "is not empty and no run directory" in errors
    assert [path.name for path in place.out.iterdir()] == ["mine.txt"]
