"""What trials share: mapped by each, and with frozen stages computed by the first for all."""

import numpy as np
import pytest
import torch
from training_fakes import three_parts
from trial_fakes import job_of

from hkbench.spaces.settings import settings_of
from hkbench.store.cache import entries
from hkbench.training.checkpoint import load_checkpoint
from hkbench.trials.trial import TrialRun

VIEWS = 2


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path / "cache"))
    return job_of(tmp_path, views=VIEWS)


def trial(job, number, **settings):
    chosen = settings_of(
        {"model": "efficientnet_lite0_cut2", "loss": "hard", "image_size": 32, "batch_size": 16, **settings}
    )
    reports = TrialRun(job, number, chosen, 0).results(job.shared.open(32))
    results = [report for report in reports if "built" not in report]
    return results, load_checkpoint(job.checkpoint(number))["training"]["network"]


def features(job):
    return sorted((job.checkpoints.folder.parent / "cache" / "features").glob("*.npy"))


def test_what_was_kept_is_what_is_opened(job):
    opened = job.shared.open(32)
    assert opened.split.hash == "split"
    assert np.array_equal(opened.split.validation, three_parts().validation)
    assert opened.table.partners.shape == (VIEWS, 66)
    assert opened.data.inputs.shape == (VIEWS, 66, 32, 32, 3)
    assert isinstance(opened.data.pictures, np.memmap)


@pytest.mark.parametrize("frozen", [{"unfreeze": "none"}, {"unfreeze": "last-stage"}])
def test_frozen_stages_are_computed_once_for_all_trials_and_stay_as_they_were(job, frozen):
    results, first = trial(job, 0, learning_rate=0.05, **frozen)
    made = features(job)
    assert len(made) == 2, "train and validation"
    assert [result["epoch"] for result in results] == [1, 2]
    assert results[1]["train_loss"] < results[0]["train_loss"]
    _, second = trial(job, 1, learning_rate=0.01, **frozen)
    assert features(job) == made
    same = {name for name in first if torch.equal(first[name], second[name])}
    assert {name for name in first if name.startswith("body.conv_stem")} <= same
    assert any(name.startswith("head") for name in first.keys() - same)


def test_without_frozen_stages_no_features_are_made(job):
    results, _ = trial(job, 0)
    assert features(job) == []
    assert results[0]["precision"] in ("float32", "bfloat16")


def test_what_a_trial_uses_is_noted_as_used(job):
    before = {entry.path: entry.used for entry in entries(job.checkpoints.folder.parent / "cache")}
    job.shared.touch()
    after = {entry.path: entry.used for entry in entries(job.checkpoints.folder.parent / "cache")}
    assert before.keys() == after.keys()
    touched = {path.parent.name for path in after if after[path] > before[path]}
    assert {"views", "rendered", "splits"} <= touched
