"""What is measured of GPUs before a search's first trial, and when nothing is."""

from types import SimpleNamespace

import pytest
import torch
from search_fakes import tiny_plan

from hkbench.driver.cluster import Node
from hkbench.driver.trial_records import LiveTrial
from hkbench.runs.gpus import DRAWN, MOST_PROBED, gpu_shares, likely_trials, trials_on_gpus
from hkbench.store.records import TelemetryRecord, Usage
from hkbench.store.rundir import RunDirectory
from hkbench.study.points import Asked
from hkbench.training.gpu_memory import GpuMemory
from hkbench.training.memory_probe import BatchPeak, MemoryProbe

MIB, GIB = 1024**2, 1024**3
NODE = Node(name="here", cpus=8, gpus=2)
GPU = GpuMemory(model="made up", total_bytes=16 * GIB, held_bytes=GIB)
SHARED = SimpleNamespace(stores={}, classes=("mug", "rug", "vase"))


class Probing:
    """A prober that finds every network small, and remembers what it was asked."""

    def __init__(self):
        self.jobs = []

    def __call__(self, jobs):
        self.jobs += jobs
        return [
            MemoryProbe(
                job=job,
                device_bytes=16 * GIB,
                context_bytes=400 * MIB,
                weight_bytes=MIB,
                peaks=tuple(
                    BatchPeak(batch_size=each, reserved_bytes=each * MIB, allocated_bytes=each * MIB)
                    for each in job.batch_sizes
                ),
                evaluation_bytes=MIB,
            )
            for job in jobs
        ]


def planned(folder, **changes):
    changes = {"device": "cuda", "gpu_share": 1.0, "concurrency": 8} | changes
    return tiny_plan(folder, **changes)


def shares_of(plan, *, nodes=(NODE,), gpu=GPU, prober=None):
    run = RunDirectory(plan.out)
    return gpu_shares(
        plan, SHARED, run, look=lambda: list(nodes), gpu=lambda: gpu, prober=prober or Probing()
    )


def live(plan):
    (_, params), *_ = plan.space.seed_points()
    asked = Asked(number=0, params=params, seed_point=None)
    return LiveTrial(asked=asked, settings=plan.space.settings(params), started="now")


def test_the_networks_of_a_space_are_probed_and_packed_from_the_first_trial_on(tmp_path):
    plan, prober = planned(tmp_path), Probing()
    shares = shares_of(plan, prober=prober)
    assert {job.architecture.model for job in prober.jobs} == {"household_s", "baseline_cnn"}
    assert {job.classes for job in prober.jobs} == {3}
    assert shares.give(live(plan)).gpus == 0.25  # four cores for each GPU


@pytest.mark.parametrize("changes", [{"quick": True}, {"address": "auto"}])
def test_a_quick_search_and_one_on_a_cluster_probe_nothing(tmp_path, changes):
    plan, prober = planned(tmp_path, **changes), Probing()
    shares = shares_of(plan, prober=prober)
    assert prober.jobs == []
    assert shares.give(live(plan)).gpus == 1.0


def test_without_gpus_nothing_is_shared_and_nothing_probed(tmp_path):
    prober = Probing()
    assert shares_of(planned(tmp_path, device="cpu"), prober=prober) is None
    assert shares_of(planned(tmp_path), nodes=[Node(name="cpu", cpus=8)], prober=prober) is None
    assert shares_of(planned(tmp_path), gpu=None, prober=prober) is None
    assert prober.jobs == []


def test_the_users_number_of_trials_holds(tmp_path):
    plan = planned(tmp_path, concurrency=1)
    shares = shares_of(plan)
    assert shares.give(live(plan)).gpus == 1.0  # nobody is there to share with
    assert not shares.has_room
    assert shares_of(planned(tmp_path, concurrency=4)).give(live(plan)).gpus == 0.5
    assert shares_of(planned(tmp_path, concurrency=None)).give(live(plan)).gpus == 0.25


def test_what_is_on_record_counts(tmp_path):
    plan = planned(tmp_path, quick=True)
    usage = Usage(seconds=1.0, peak_gpu_bytes=GIB)
    row = TelemetryRecord(source="trial", name="0", epoch=1, usage=usage)
    trial = SimpleNamespace(number=0, params=live(plan).asked.params, failures=[])
    run = SimpleNamespace(trials=lambda: [trial], read=lambda kind: [row])
    shares = gpu_shares(plan, SHARED, run, look=lambda: [NODE], gpu=lambda: GPU)
    assert shares.give(live(plan)).gpus == 0.25


def test_so_many_kinds_are_probed_and_no_more_and_the_commonest_first(tmp_path):
    parameters = {
        "model": {"type": "categorical", "choices": ["household_s"]},
        "loss": {"type": "categorical", "choices": ["hard"]},
        "head_layers": {"type": "categorical", "choices": [1, 2]},
        "batch_size": {"type": "categorical", "choices": [16, 32]},
    }
    plan = planned(tmp_path, space={"parameters": parameters, "start_with": []})
    trials = likely_trials(plan.space, seed=0)
    assert len(trials) == DRAWN
    assert {(each.head_layers, each.batch_size) for each in trials} == {(1, 16), (1, 32), (2, 16), (2, 32)}
    prober = Probing()
    shares_of(plan, prober=prober)
    assert [job.batch_sizes for job in prober.jobs] == [(16, 32), (16, 32)]
    assert len(prober.jobs) <= MOST_PROBED


@pytest.mark.parametrize(
    ("gpus", "cores", "found"),
    [(0, 8, None), (1, 8, (8, 8)), (2, 8, (8, 4)), (4, 2, (4, 1)), (1, 48, (8, 48))],
)
def test_as_many_trials_at_once_as_gpus_and_cores_allow(gpus, cores, found, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr("hkbench.runs.gpus.usable_cores", lambda: cores)
    assert trials_on_gpus("cuda") == found
    assert trials_on_gpus("cpu") is None
