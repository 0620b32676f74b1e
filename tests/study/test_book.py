"""What a study's driver reads of it, and that nothing which waits in it is missed."""

import os

import pytest

from hkbench.spaces.space import Space
from hkbench.study.ask_tell import AskTell
from hkbench.study.points import ENDED, point_key

SPACE = {
    "name": "small",
    "about": "for tests",
    "parameters": {"temperature": {"type": "float", "low": 1, "high": 9, "step": 0.01}},
    "objectives": {"accuracy": "maximize", "artifact_bytes": "minimize"},
    "defaults": {"image_size": 32, "model": "household_s", "loss": "kd"},
}
VALUES = {"accuracy": 0.5, "artifact_bytes": 1e5}


def study_of(tmp_path, **changes):
    return AskTell.open(tmp_path / "study.log", Space.model_validate(SPACE | changes), 0, "random")


def test_a_trial_s_end_is_told_without_a_look_at_all_others(tmp_path, monkeypatch):
    study = study_of(tmp_path)
    asked = [study.ask() for _ in range(3)]
    monkeypatch.setattr(study._book.study, "get_trials", None)  # a call would fail
    study.tell_complete(asked[0].number, VALUES, {})
    study.tell_pruned(asked[1].number, VALUES, "beaten")
    study.tell_failed(asked[2].number, "it raised")
    assert study.trained() == 3


def test_a_trial_s_end_is_one_write_and_read_again(tmp_path):
    study = study_of(tmp_path)
    complete, pruned, failed = (study.ask() for _ in range(3))
    study.tell_complete(complete.number, VALUES, {})
    study.tell_pruned(pruned.number, VALUES, "beaten")
    study.tell_failed(failed.number, "it raised")
    ends = {end.asked.number: end for end in study_of(tmp_path).unrecorded([complete.number])}
    assert {number: (end.state, end.reason) for number, end in ends.items()} == {
        pruned.number: ("PRUNED", "beaten"),
        failed.number: ("FAIL", "it raised"),
    }
    assert study._book.trial(pruned.number).user_attrs[ENDED]["last_values"] == VALUES


def test_points_that_wait_come_first_also_after_none_did(tmp_path):
    """The study isn't searched for waiting points at each ask, and yet none is missed."""
    seeded = {"name": "seeded", "source": "a guess", "params": {"temperature": 2.5}}
    study = study_of(tmp_path, start_with=[seeded])
    assert study.ask().params == {"temperature": 2.5}
    other = study.ask()
    assert point_key(other.params) != point_key({"temperature": 2.5})
    study._book.enqueue({"temperature": 7.25})
    assert study.ask().params == {"temperature": 7.25}
    study._book.study.enqueue_trial({"temperature": 8.5})  # half of a write that failed
    study.mend()
    assert study.ask().params == {"temperature": 8.5}


def lines_of(tmp_path):
    return (tmp_path / "study.log").read_text().splitlines()


def test_a_trial_s_end_waits_for_the_disk_once(tmp_path, monkeypatch):
    study = study_of(tmp_path)
    asked = study.ask()
    before, waits = len(lines_of(tmp_path)), []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: waits.append(file) or fsync(file))
    study.tell_refused(asked.number, VALUES, "too large")
    assert len(lines_of(tmp_path)) == before + 3, "what was refused, why, and the end"
    assert len(waits) == 1


def test_an_end_that_can_not_be_written_leaves_nothing_of_itself(tmp_path, monkeypatch):
    study = study_of(tmp_path)
    asked = study.ask()
    before = lines_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(study._book.study, "tell", fail)
        with pytest.raises(OSError, match="away"):
            study.tell_pruned(asked.number, VALUES, "beaten")
    assert lines_of(tmp_path) == before
    assert ENDED not in study._book.trial(asked.number).user_attrs
    study.tell_pruned(asked.number, VALUES, "beaten")
    assert study_of(tmp_path)._book.trial(asked.number).state.name == "PRUNED"


def fail(*_):
    raise OSError(5, "away")
