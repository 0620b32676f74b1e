"""A search that is cut off, by Ctrl-C, SIGTERM or kill -9, and goes on where it was."""

import signal
from collections import Counter

import pytest
from search_command import Place, command_line
from search_fakes import draw_pictures, write_space

from hkbench.spaces.file import load_space
from hkbench.store.rundir import RunDirectory
from hkbench.study.ask_tell import AskTell

pytestmark = pytest.mark.ray

EPOCHS = 40
TRIALS = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("interrupted"))
    schedule = {"trials": TRIALS, "max_epochs": EPOCHS, "grace": EPOCHS}
    place.space = write_space(place.folder, schedule=schedule)
    place.flags = ("--space", place.space, "--data", draw_pictures(place.folder / "pictures", each=12))
    place.flags += ("--views", 1, "--out", place.out)
    return place


@pytest.fixture(scope="module")
def interrupted(place):
    """A search stopped by Ctrl-C while it trains: its exit code, standard error and epochs on record."""
    search = place.start(*place.flags)
    search.wait_for("trial 0, epoch 2")
    search.interrupt()
    code, errors = search.end()
    return code, errors, recorded_epochs(place)


def recorded_epochs(place):
    return [(row.trial, row.epoch) for row in RunDirectory(place.out).epochs() if row.trial != "teacher"]


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(place, interrupted):
    code, errors, _ = interrupted
    assert code == 130
    assert errors.endswith(
        f"Everything so far is in {place.out}; go on with the same command and --resume.\n"
    )
    assert "Traceback" not in errors
    assert RunDirectory(place.out).read_run().status == "interrupted"
    assert place.processes() == []
    assert not (place.out / "ray").exists()


def test_ctrl_c_leaves_what_was_on_to_be_resumed(place, interrupted):
    _, _, epochs = interrupted
    assert (0, 2) in epochs
    assert RunDirectory(place.out).trials() == []
    study = AskTell.open(place.out / "study.log", load_space(str(place.space)), seed=0)
    assert 0 in [asked.number for asked in study.running()]


def test_nothing_lands_outside_the_run_directory_and_the_cache(place, interrupted):
    assert list(place.work.iterdir()) == []
    left = {path.relative_to(place.home).parts[0] for path in place.home.rglob("*") if path.is_file()}
    assert left == set()


@pytest.fixture(scope="module")
def resumed(place, interrupted):
    """The search resumed, killed, its files torn, resumed again and sent SIGTERM as it exports."""
    killed = place.start(*place.flags, "--resume")
    first = killed.wait_for("trial 0, epoch")
    second_code, second_errors = command_line(
        "search", *place.flags, "--resume", environment=place.environment
    )
    killed.process.kill()
    killed.end()
    for name in ("epochs.jsonl", "telemetry.jsonl", "study.log"):
        with (place.out / name).open("r+b") as file:
            file.truncate(file.seek(0, 2) - 5)
    last = place.start(*place.flags, "--resume", "--trials", TRIALS + 1)
    last.wait_for("export")
    last.interrupt(signal.SIGTERM)
    code, errors = last.end()
    return {"first": first, "second": (second_code, second_errors), "code": code, "errors": errors}


def test_a_resumed_trial_goes_on_after_its_last_epoch(interrupted, resumed):
    _, _, epochs = interrupted
    last = max(epoch for trial, epoch in epochs if trial == 0)
    # One epoch more may have been trained than was on record when Ctrl-C came.
    assert resumed["first"].split("trial 0, ")[1].startswith(f"epoch {last + 1} ")


def test_a_second_search_in_the_same_folder_is_refused(place, resumed):
    code, errors = resumed["second"]
    assert code == 2
    assert errors == f"error: Another hkbench search is writing to {place.out}. Give --out another name.\n"


def test_after_kill_9_and_torn_files_every_trial_and_epoch_counts_once(place, resumed):
    run = RunDirectory(place.out)
    trials = run.trials()
    searched = [trial for trial in trials if not (trial.seed_point or "").startswith("twin")]
    assert len(searched) == TRIALS + 1
    assert all(trial.state == "COMPLETE" and trial.epochs == EPOCHS for trial in trials)
    assert Counter(recorded_epochs(place)) == Counter(
        (trial.number, epoch) for trial in trials for epoch in range(1, EPOCHS + 1)
    )
    study = AskTell.open(place.out / "study.log", load_space(str(place.space)), seed=0)
    assert study.running() == []
    assert study.trained() == len(searched)


def test_sigterm_is_as_good_as_ctrl_c(place, resumed):
    assert resumed["code"] == 130
    assert "--resume" in resumed["errors"]
    assert "Traceback" not in resumed["errors"]


def test_ctrl_c_before_the_first_trial_leaves_no_run_directory(place):
    out = place.folder / "early"
    long_teacher = ("--set", "teacher.max_epochs=500", "--set", "teacher.patience=500")
    search = place.start(*place.flags, *long_teacher, "--out", out)
    search.wait_for("teacher, epoch 1")
    search.interrupt()
    code, errors = search.end()
    assert code == 130
    assert errors.endswith("kept in the cache; go on with the same command.\n")
    assert "Traceback" not in errors
    assert not out.exists()
