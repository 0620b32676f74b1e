"""A trial inside Ray's worker, without Ray: what it holds is set before anything is built."""

from types import SimpleNamespace

import pytest
import torch

from hkbench.driver import ray_trial
from hkbench.driver.cluster import TrialResources
from hkbench.driver.ray_trial import RayTrial
from hkbench.store.records import Usage
from hkbench.training.gpu_memory import NOT_TOLD, TORCHS_OWN
from hkbench.training.loop import EpochResult
from hkbench.trials.checkpoint_store import CheckpointStore
from hkbench.trials.trial import Job, TrialRun

SETTINGS = {"model": "household_s", "image_size": 32, "loss": "hard"}
SHARE = TrialResources(cpus=2, gpus=0.25, threads=2, memory_fraction=0.2)


def job(folder, device="cuda", threads=2):
    return Job(
        shared=SimpleNamespace(open=lambda size: f"data of {size}", touch=lambda: None),
        checkpoints=CheckpointStore.at(folder),
        max_epochs=2,
        seed=0,
        threads=threads,
        device=device,
    )


@pytest.fixture
def done(monkeypatch):
    """What a worker does before it trains, in order."""
    done = []

    class Run:
        def __init__(self, *given, **more):
            done.append(("run", given[0].threads))

        def results(self, data):
            done.append(("reads", data))
            yield {"built": True}

    monkeypatch.setattr(ray_trial, "TrialRun", Run)
    monkeypatch.setattr(ray_trial, "limit_memory", lambda *limit: done.append(("limit", *limit)))
    return done


def step(folder, **changes):
    config = {"job": job(folder), "number": 3, "settings": SETTINGS, "costs": {}, "recorded_epochs": 0}
    config |= {"attempt": 0, "thaws": None, "epoch_limit_s": None, **changes}
    trial = RayTrial.__new__(RayTrial)
    trial.setup(config)
    assert trial.step() == {"built": True}


def test_a_share_limits_the_memory_before_anything_is_built(done, tmp_path):
    step(tmp_path, held=SHARE)
    assert done == [("limit", torch.device("cuda"), 0.2), ("run", 2), ("reads", "data of 32")]
    assert torch.get_num_threads() == 2


def test_without_a_share_there_is_no_limit(done, tmp_path):
    step(tmp_path)
    assert done == [("run", 2), ("reads", "data of 32")]


def run_of(folder, device="cpu"):
    settings = ray_trial.TrialSettings.model_validate(SETTINGS)
    return TrialRun(job(folder, device), 3, settings, recorded_epochs=1)


@pytest.mark.parametrize(
    ("reason", "peak"), [(f"{NOT_TOLD} not in NVML's list, the device's is given", 77), (None, 5000)]
)
def test_where_nvml_tells_only_the_devices_peak_a_trial_reports_torchs(tmp_path, monkeypatch, reason, peak):
    monkeypatch.setattr("hkbench.trials.trial.peak_reserved_bytes", lambda device: 77)
    sampler = SimpleNamespace(lap=lambda: Usage(seconds=1.0, peak_gpu_bytes=5000, gpu_reason=reason))
    epoch = EpochResult(epoch=1, train_loss=1.0, learning_rate=0.1, seconds=1.0, metrics={})
    result = run_of(tmp_path, "cuda")._result(epoch, sampler, "float32")
    assert result["usage_peak_gpu_bytes"] == peak
    assert result["usage_gpu_reason"] == (None if reason is None else TORCHS_OWN)


@pytest.mark.parametrize("starts_anew", [True, False])
def test_a_checkpoint_for_which_there_is_no_memory_is_not_thrown_away(tmp_path, monkeypatch, starts_anew):
    error = RuntimeError("size mismatch") if starts_anew else torch.OutOfMemoryError("CUDA out of memory.")
    built = []

    class Unready:
        def load_state_dict(self, state):
            raise error

    def build(run, data):
        built.append(Unready())
        if len(built) > 1:
            raise KeyboardInterrupt
        return built[0]

    monkeypatch.setattr(TrialRun, "build", build)
    monkeypatch.setattr("hkbench.trials.trial.load_checkpoint", lambda path: {"results": [], "training": {}})
    with pytest.raises(KeyboardInterrupt if starts_anew else torch.OutOfMemoryError):
        next(run_of(tmp_path).results(None))
