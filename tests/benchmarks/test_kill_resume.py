import os
import subprocess
import sys
from collections import Counter

import pytest

from benchmarks import kill_resume
from benchmarks.killed.moments import MOST_EPOCHS, Moment, moments_of
from benchmarks.killed.notes import NOTES, Note, NoteFile, write
from benchmarks.killed.ours import ROOT, SITE
from benchmarks.killed.processes import environment, of_search
from benchmarks.killed.search import KilledSearch, Pace
from benchmarks.killed.verdict import Accounts, Kill, judged

TOY = """
import json, pathlib, sys, time
from benchmarks.killed.notes import write

folder, flavour = pathlib.Path(sys.argv[1]), sys.argv[2]
state = folder / "state.json"
had = json.loads(state.read_text()) if state.exists() else {}
if had and flavour == "refuses":
    sys.exit("there is no search here")
for trial in ("0", "1"):
    for epoch in range(had.get(trial, 0) + 1, 5):
        write("began", trial, epoch, trial)
        time.sleep(0.03)
        write("ended", trial, epoch, trial)
        if flavour != "forgets" or epoch == 4:
            had[trial] = epoch
            state.with_suffix(".new").write_text(json.dumps(had))
            state.with_suffix(".new").replace(state)
print("export", flush=True)
time.sleep(0.05)
"""
"""Trains two trials of 4 epochs in its own process; what it does wrong is its flavour."""


class ToySearch:
    export_line = "export"

    def __init__(self, folder, flavour):
        self.folder, self.flavour = folder, flavour

    def command(self):
        return [sys.executable, "-c", TOY, str(self.folder), self.flavour]

    def environment(self, notes):
        return environment(notes, self.folder, [ROOT])

    def finished(self, notes, printed):
        return {note.trial for note in notes if note.what == "ended" and note.epoch == 4}

    def accounts(self):
        return Accounts(epochs={"0": 4, "1": 4})


def training(victim, epochs, share=0.0):
    return Moment(phase="training", victim=victim, epochs=epochs, share=share)


def killed(folder, flavour, *moments):
    outcome = KilledSearch(ToySearch(folder, flavour), Pace(export_s=0.05)).outcome(list(moments))
    assert of_search(folder / "notes.jsonl") == []
    return outcome


def test_a_search_that_keeps_each_epoch_passes(tmp_path):
    export = Moment(phase="export", victim="driver", epochs=1, share=0.5)
    start = Moment(phase="start-up", victim="driver", epochs=1, share=0.0)
    found = killed(tmp_path, "honest", start, training("driver", 2), training("machine", 3), export)
    assert found.finished
    assert [kill.problem for kill in found.kills] == [None] * 4
    assert [kill.victim for kill in found.kills] == ["driver", "driver", "machine", "driver"]
    assert [kill.phase for kill in found.kills] == ["start-up", "training", "training", "export"]
    assert found.kills[-1].finished == {"0", "1"}
    assert (found.verdict.lost, found.verdict.doubles) == ([], [])
    assert found.verdict.most_redone <= 1
    assert found.lives == 5


def test_epochs_that_are_trained_again_are_counted(tmp_path):
    found = killed(tmp_path, "forgets", training("driver", 4))
    assert found.finished
    assert found.verdict.redone == {(0, "0"): 3}
    assert found.verdict.trained == 11


def test_a_search_that_cannot_be_gone_on_with_is_given_up(tmp_path):
    found = killed(tmp_path, "refuses", training("driver", 3), training("driver", 1))
    assert not found.finished
    (kill,) = found.kills
    assert kill.problem == "exit code 1: there is no search here"


def test_the_driver_is_killed_where_there_is_no_worker(tmp_path):
    found = killed(tmp_path, "honest", training("worker", 1), training("raylet", 1))
    assert [kill.victim for kill in found.kills] == ["driver", "driver"]


def note(what, trial, epoch, at, point=None):
    return Note(what=what, trial=trial, epoch=epoch, point=point or trial, pid=1, at=at)


def kill(at, *finished):
    moment = training("driver", 1)
    return Kill(
        moment=moment, phase="training", victim="driver", at=at, after_s=1.0, finished=frozenset(finished)
    )


def epochs(trial, count, at, point=None):
    return [
        note(what, trial, epoch, at, point) for epoch in range(1, count + 1) for what in ("began", "ended")
    ]


def test_a_finished_trial_that_is_missing_or_trained_on_is_lost():
    notes = [*epochs("0", 2, at=1), *epochs("1", 2, at=1), *epochs("0", 1, at=3)]
    found = judged(notes, [kill(2, "0", "1", "2")], Accounts(epochs={"0": 2, "1": 2}))
    assert found.lost == ["trial 0 was trained on", "trial 2 is missing"]
    assert judged(notes, [kill(4, "0", "1")], Accounts(epochs={"0": 2, "1": 2})).lost == []


def test_two_trials_of_one_point_are_a_double_and_so_is_a_record_that_is_there_twice():
    notes = [*epochs("0", 2, at=1, point="lr 1"), *epochs("1", 2, at=3, point="lr 1")]
    found = judged(notes, [kill(2)], Accounts(epochs={"1": 2}, twice=["trial 1 is on record 2 times"]))
    assert found.doubles == ["trials 0, 1 train one point", "trial 1 is on record 2 times"]
    assert found.abandoned == {"0": 2}


def test_an_epoch_that_was_cut_is_not_redone_and_each_kill_is_counted_by_itself():
    first = [*epochs("0", 2, at=1), note("began", "0", 3, 1)]
    second = [note(what, "0", epoch, 3) for epoch in (2, 3) for what in ("began", "ended")]
    third = [note(what, "0", 3, 5) for what in ("began", "ended")]
    found = judged([*first, *second, *third], [kill(2), kill(4)], Accounts(epochs={"0": 3}))
    assert found.redone == {(0, "0"): 1, (1, "0"): 1}
    assert found.most_redone == 1
    assert found.cut == 1


def test_an_epoch_is_charged_to_the_kill_that_made_it_necessary():
    notes = [*epochs("0", 1, at=1), *epochs("0", 1, at=9)]
    assert judged(notes, [kill(2), kill(5)], Accounts(epochs={"0": 1})).redone == {(0, "0"): 1}
    assert judged(notes, [kill(0)], Accounts(epochs={"0": 1})).redone == {(0, "0"): 1}
    assert judged(notes, [], Accounts(epochs={"0": 1})).redone == {(-1, "0"): 1}


def test_moments_are_the_same_for_a_seed_and_hit_all_that_can_be_hit():
    assert moments_of(3) == moments_of(3) != moments_of(4)
    drawn = [moment for seed in range(5) for moment in moments_of(seed)]
    assert len(drawn) == kill_resume.KILLS
    assert Counter(moment.victim for moment in drawn) == {
        "driver": 30,
        "machine": 10,
        "worker": 5,
        "raylet": 5,
    }
    assert all(0 <= moment.share < 1 and 1 <= moment.epochs <= MOST_EPOCHS for moment in drawn)
    assert all(moments_of(seed)[-1].phase == "export" for seed in range(5))


def test_notes_are_read_as_they_come_and_a_torn_one_waits(tmp_path, monkeypatch):
    path = tmp_path / "notes.jsonl"
    monkeypatch.setenv(NOTES, str(path))
    file = NoteFile(path)
    assert file.notes() == []
    write("began", "0", 1, "lr 1")
    assert [(found.what, found.epoch, found.pid) for found in file.notes()] == [("began", 1, os.getpid())]
    whole = path.read_text()
    path.write_text(whole + whole[:20])
    assert len(file.notes()) == 1
    path.write_text(whole + whole)
    assert len(file.notes()) == 2


def test_workers_of_hkbench_write_notes(tmp_path):
    trains = "from hkbench.trials import trial; assert trial.TrialRun.build.__name__ == 'built'"
    done = subprocess.run(
        [sys.executable, "-c", trains],
        env=environment(tmp_path / "notes", tmp_path, [SITE, ROOT]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_a_search_of_hkbench_outlives_its_driver():
    claim = kill_resume.measure(True)
    assert claim.holds, claim
    found = claim.details["hkbench"]
    assert found["resumed"] == found["kills"] == 1
    assert found["epochs_accounted"] == 8
    assert found["epochs_trained"] == 8 + found["epochs_redone"]
