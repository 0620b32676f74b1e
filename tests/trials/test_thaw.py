"""A trial that goes on from one that was stopped, whose point it has."""

import pytest
import torch
from trial_fakes import job_of

from hkbench.spaces.settings import settings_of
from hkbench.training.checkpoint import load_checkpoint
from hkbench.trials.trial import TrialRun

SETTINGS = settings_of({"model": "household_s", "loss": "hard", "image_size": 32, "batch_size": 16})


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path / "cache"))
    return job_of(tmp_path, epochs=3)


def epochs_of(job, number, *, stop_after=None, **changes):
    """Train a trial, or the first epochs of it; return what it reports after each."""
    found = []
    for report in TrialRun(job, number, SETTINGS, 0, **changes).results(job.shared.open(32)):
        if "built" not in report:
            found.append(report)
        if len(found) == stop_after:
            break
    return found


def weights_of(job, number):
    return load_checkpoint(job.checkpoint(number))["training"]["network"]


def test_it_has_the_epochs_of_the_other_for_nothing_and_ends_as_that_would_have(job):
    stopped = epochs_of(job, 0, stop_after=2)
    thawed = epochs_of(job, 5, thaws=0)
    assert [report["epoch"] for report in thawed] == [1, 2, 3]
    assert [report["number"] for report in thawed] == [5, 5, 5]
    assert [report.get("thawed", False) for report in thawed] == [True, True, False]
    assert [report["seconds"] for report in thawed[:2]] == [0.0, 0.0]
    assert thawed[2]["seconds"] > 0
    assert [report["accuracy"] for report in thawed[:2]] == [report["accuracy"] for report in stopped]
    whole = epochs_of(job, 7)
    assert thawed[2]["train_loss"] == whole[2]["train_loss"]
    expected, found = weights_of(job, 7), weights_of(job, 5)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_one_that_was_cut_off_goes_on_from_its_own_checkpoint(job):
    epochs_of(job, 0, stop_after=1)
    epochs_of(job, 5, thaws=0, stop_after=2)
    job.checkpoint(0).unlink()
    again = epochs_of(job, 5, thaws=0)
    assert [report["epoch"] for report in again] == [1, 2, 3]
    assert [report.get("thawed", False) for report in again] == [True, False, False]


def test_without_a_checkpoint_of_the_other_it_trains_from_the_start(job):
    found = epochs_of(job, 5, thaws=0)
    assert [report["epoch"] for report in found] == [1, 2, 3]
    assert not any(report.get("thawed") for report in found)
