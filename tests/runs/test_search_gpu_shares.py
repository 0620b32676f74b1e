"""A search on Ray whose trials share two GPUs, which are faked where torch would meet them."""

import json
import os
from collections import defaultdict
from functools import partial
from types import SimpleNamespace

import pytest
import ray
import torch
from fakes_in_processes import sitecustomize
from search_fakes import Heard, draw_pictures, tiny_plan

from hkbench.driver import ray_nodes
from hkbench.driver.ray_runtime import ray_runtime
from hkbench.errors import StoppedError
from hkbench.runs.search import run_search
from hkbench.store.records import TelemetryRecord
from hkbench.store.rundir import RunDirectory
from hkbench.training.gpu_memory import GpuMemory
from hkbench.training.memory_probe import ProbeFailure

pytestmark = [pytest.mark.ray, pytest.mark.slow]

GIB = 1024**3
TRIALS, EPOCHS, GPUS, CORES = 8, 2, 2, 4
FAKE_GPUS = sitecustomize("""
limited = [1.0]

def note(**event):
    import json, os, time
    with open(os.environ["FAKE_GPUS"], "a") as file:
        file.write(json.dumps({"at": time.monotonic(), **event}) + chr(10))

def fake_limit(module):
    '''Note how much of a GPU's memory a trial may take.'''
    def limit_memory(device, fraction):
        limited[0] = fraction
    module.limit_memory = limit_memory

def fake_trial(module):
    '''Train on the CPU, let an epoch take 300 MiB of a GPU, and one trial of half a GPU ask for too much.'''
    import os
    import time
    import ray
    import torch
    from hkbench.training.gpu_memory import TORCHS_OWN
    train_on_the_cpu(module)
    taken = {"peak_gpu_bytes": 300 * 1024**2, "gpu_reason": TORCHS_OWN}
    module.with_own_peak = lambda usage, own: usage.model_copy(update=taken)
    results = module.TrialRun.results
    def on_a_share(run, data):
        gpu = ray.get_runtime_context().get_accelerator_ids()["GPU"][0]
        held = {"number": run._number, "gpu": gpu, "fraction": limited[0], "threads": run._job.threads}
        note(begins=True, **held, pid=os.getpid())
        until = time.monotonic() + 30  # one that is over at once leaves its GPU to the second
        while open(os.environ["FAKE_GPUS"]).read().count("begins") < 2 and time.monotonic() < until:
            time.sleep(0.01)
        try:
            for result in results(run, data):
                yield result
                if limited[0] < 1 and "built" not in result:
                    try:
                        os.close(os.open(os.environ["FAKE_GPUS"] + ".full", os.O_CREAT | os.O_EXCL))
                    except FileExistsError:
                        continue
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 64.00 MiB.")
        finally:
            note(begins=False, **held)
    module.TrialRun.results = on_a_share

FAKED = {"hkbench.driver.ray_trial": fake_limit, "hkbench.trials.trial": fake_trial}
""")
SPACE = {
    "parameters": {
        "model": {"type": "categorical", "choices": ["household_s"]},
        "loss": {"type": "categorical", "choices": ["hard"]},
        "weight_decay": {"type": "float", "low": 1e-5, "high": 1e-3},
    },
    "start_with": [],
    "schedule": {"trials": TRIALS, "max_epochs": EPOCHS, "grace": EPOCHS},
}


class UntilExport(Heard):
    """Stops where the trials are through."""

    def phase(self, name):
        super().phase(name)
        if name == "export":
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search on two GPUs: its run directory, who was told of it, and what its workers noted."""
    folder = tmp_path_factory.mktemp("gpus")
    site, events = folder / "site", folder / "events.jsonl"
    site.mkdir()
    (site / "sitecustomize.py").write_text(FAKE_GPUS)
    paths = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HKBENCH_CACHE", str(folder / "cache"))
        patch.setenv("PYTHONPATH", paths)
        patch.setenv("FAKE_GPUS", str(events))
        patch.setattr(ray, "init", partial(ray.init, num_gpus=GPUS))
        patch.setattr(torch.cuda, "device_count", lambda: GPUS)
        for room in ("driver.ray_runtime", "runs.gpus"):
            patch.setattr(f"hkbench.{room}.usable_cores", lambda: CORES)
        gpu = GpuMemory(model="made up", total_bytes=16 * GIB, held_bytes=GIB)
        patch.setattr("hkbench.runs.gpus.smallest_gpu", lambda: gpu)
        patch.setattr(
            "hkbench.runs.gpus.known_or_probed",
            lambda jobs, device_model: [ProbeFailure(reason=f"no probe of {device_model}") for _ in jobs],
        )
        pictures = draw_pictures(folder / "pictures", each=12)
        plan = tiny_plan(folder, space=SPACE, data=str(pictures), views=1, concurrency=None, max_failures=0)
        object.__setattr__(plan, "device", "cuda")
        heard = UntilExport()
        with pytest.raises(StoppedError):
            run_search(plan, heard)
    return RunDirectory(plan.out), heard, [json.loads(line) for line in events.read_text().splitlines()]


def test_every_trial_ends_one_of_them_in_a_larger_share(searched):
    run, heard, _ = searched
    trials = run.trials()
    assert [(trial.state, trial.reason) for trial in trials] == [("COMPLETE", None)] * TRIALS
    assert "gpu memory" in heard.phases
    ((number, reason, epoch),) = heard.retried
    assert reason.startswith(f"trial {number} ran out of memory in 1/2 of a GPU; 64 MiB more were asked for")
    (again,) = [trial for trial in trials if trial.failures]
    assert (again.number, again.gpu_share, epoch) == (number, 1.0, 1)
    shares = {row.gpu_share for row in run.read(TelemetryRecord) if row.source == "trial"}
    assert shares == {1.0, 0.5}


def test_no_gpu_is_over_booked_and_each_trial_has_its_part_of_memory_and_cores(searched):
    _, _, events = searched
    taken = defaultdict(float)
    for event in sorted(events, key=lambda event: event["at"]):
        share = 1.0 if event["fraction"] == 1 else 0.5
        assert event["threads"] == share * CORES / GPUS
        assert event["fraction"] == 1 or 0.3 < event["fraction"] < 0.5
        taken[event["gpu"]] += share if event["begins"] else -share
        assert taken[event["gpu"]] <= 1
    assert set(taken) == {"0", "1"}
    assert set(taken.values()) == {0.0}


def test_workers_of_a_share_are_kept_from_trial_to_trial(searched):
    _, _, events = searched
    begun = [event for event in events if event["begins"]]
    assert len(begun) == TRIALS + 1
    assert len({event["pid"] for event in begun}) < len(begun)


def test_on_a_cluster_a_process_that_has_all_gpus_of_a_node_says_what_they_are(monkeypatch):
    def seen():
        gpus = sorted(ray.get_runtime_context().get_accelerator_ids()["GPU"])
        return GpuMemory(model=f"made up: {gpus}", total_bytes=16 * GIB, held_bytes=GIB)

    monkeypatch.setattr(ray, "init", partial(ray.init, num_gpus=GPUS))
    with ray_runtime(SimpleNamespace(address=None)):
        monkeypatch.setattr(ray_nodes, "smallest_gpu", seen)
        found = ray_nodes.smallest_gpu_of_all()
        assert found == GpuMemory(model="made up: ['0', '1']", total_bytes=16 * GIB, held_bytes=GIB)
        monkeypatch.setattr(ray_nodes, "smallest_gpu", lambda: None)
        assert ray_nodes.smallest_gpu_of_all() is None
