"""A search on a Ray cluster: nodes that come, freeze and go; and addresses at which there is none."""

import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections import Counter

import pytest
from search_command import Place, command_line
from search_fakes import draw_pictures, write_space

from hkbench.store.records import TelemetryRecord
from hkbench.store.rundir import RunDirectory
from hkbench.trials.trial import Job

pytestmark = pytest.mark.ray

NODES = """
import sys
import psutil
from ray.cluster_utils import Cluster

def raylet_and_workers(node):
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return [raylet, *raylet.children(recursive=True)]

head, *others = map(int, sys.argv[1].split(","))
gpus = int(sys.argv[2])
cluster = Cluster(
    initialize_head=True, head_node_args={"num_cpus": head, "num_gpus": gpus, "include_dashboard": False}
)
nodes = [cluster.add_node(num_cpus=each, num_gpus=gpus) for each in others]
print(cluster.address, flush=True)
stopped = []
for line in sys.stdin:
    order = line.strip()
    if order == "add":
        nodes.append(cluster.add_node(num_cpus=1))
    elif order == "lose":
        stopped = raylet_and_workers(nodes[-1])
        for process in stopped:
            process.kill()
    elif order == "freeze":
        stopped = raylet_and_workers(nodes[-1])
        for process in stopped:
            process.suspend()
    elif order == "thaw":
        for process in stopped:
            if process.is_running():
                process.resume()
    print(order, flush=True)
for process in stopped:
    if process.is_running():
        process.kill()
cluster.shutdown()
"""
HEALTH = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "4",
}
FAKE_GPUS = """
import sys
from importlib.machinery import PathFinder

def fake_plan(module):
    '''Let a search think that there are GPUs, of which each trial takes a share.'''
    import os
    module.check_device = lambda name: None
    begun = module.SearchPlan.__post_init__
    def with_share(plan):
        begun(plan)
        if plan.device == "cuda":
            object.__setattr__(plan, "gpu_share", float(os.environ["FAKE_SHARE"]))
    module.SearchPlan.__post_init__ = with_share

def fake_trial(module):
    '''Train on the CPU where a GPU is asked for, and let a GPU hold no more trials than it has shares.'''
    import torch
    class OnCpu:
        device = staticmethod(lambda name: torch.device("cpu"))
        def __getattr__(self, name):
            return getattr(torch, name)
    module.torch = OnCpu()
    results = module.TrialRun.results
    def on_a_share(run, data):
        with a_share():
            yield from results(run, data)
    module.TrialRun.results = on_a_share

def a_share():
    import os
    import ray
    from filelock import FileLock, Timeout
    here = ray.get_runtime_context()
    gpu = here.get_accelerator_ids()["GPU"][0]
    for share in range(round(1 / float(os.environ["FAKE_SHARE"]))):
        lock = FileLock(f"{os.environ['FAKE_GPUS']}/{here.get_node_id()}-{gpu}-{share}")
        try:
            return lock.acquire(timeout=0)
        except Timeout:
            pass
    raise RuntimeError(f"GPU {gpu} is over-booked")

FAKED = {"hkbench.driver.plan": fake_plan, "hkbench.trials.trial": fake_trial}

class Faking:
    def find_spec(self, name, path=None, target=None):
        if name not in FAKED:
            return None
        found = PathFinder.find_spec(name, path, target)
        load = found.loader.exec_module
        def exec_module(module):
            load(module)
            FAKED[name](module)
        found.loader.exec_module = exec_module
        return found

sys.meta_path.insert(0, Faking())
"""
EPOCHS = 150
EPOCH = re.compile(r"trial (\d+), epoch (\d+) ")
UNTAUGHT = {
    "parameters": {
        "model": {"type": "categorical", "choices": ["household_s"]},
        "loss": {"type": "categorical", "choices": ["hard"]},
        "weight_decay": {"type": "float", "low": 1e-5, "high": 1e-3},
    },
    "start_with": [],
}
"""A space without teacher and twin, whose trials all take the same time."""
needs_hooks = pytest.mark.skipif(
    "origin" not in Job.__dataclass_fields__,
    reason="waits for ray_trial.py and runner.py to take node, device and room from search/cluster.py",
)


class Nodes:
    """A cluster on this machine, in a process of its own that is told what becomes of its last node."""

    def __init__(self, folder, cpus, *, gpus=0, **variables):
        self.token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.cache = folder / "nodes' cache"
        self.process = subprocess.Popen(
            [sys.executable, "-c", NODES, ",".join(map(str, cpus)), str(gpus)],
            env=os.environ | self.token | {"HKBENCH_CACHE": str(self.cache)} | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self.process.stdout.readline().strip()
        assert self.address, "the cluster did not start"

    def tell(self, order):
        """Have something done to the nodes, and wait for it."""
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == order

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with self.process:
            self.process.stdin.close()


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    schedule = {"trials": 2, "max_epochs": 2, "grace": 2}
    space = write_space(tmp_path, schedule=schedule)
    place.flags = ("--space", space, "--data", draw_pictures(tmp_path / "pictures", each=12))
    place.flags += ("--views", 1, "--out", place.out)
    return place


@pytest.fixture
def cluster(place):
    """Two nodes of one CPU each, and what it takes to join them: (address, environment)."""
    with Nodes(place.folder, [1, 1]) as nodes:
        yield nodes.address, nodes.token


@pytest.mark.slow
def test_a_search_joins_a_cluster_and_leaves_it_running(place, cluster):
    address, token = cluster
    search = place.start(*place.flags, "--address", address, **token)
    search.wait_for("export")
    search.interrupt()
    code, errors = search.end()
    assert code == 130
    assert "Traceback" not in errors
    run = RunDirectory(place.out)
    assert {trial.state for trial in run.trials()} == {"COMPLETE"}
    assert len([row for row in run.read(TelemetryRecord) if row.source == "trial"]) >= 4
    host, port = address.split(":")
    socket.create_connection((host, int(port)), timeout=5).close()  # the cluster is not ours to end


@pytest.mark.slow
def test_a_cluster_that_refuses_the_token_is_said_in_one_line(place, cluster):
    address, token = cluster
    other = token | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    code, errors = place.run(*place.flags, "--address", address, **other)
    assert code == 2
    assert "can't be joined" in errors
    assert "Traceback" not in errors


def long_search(place, epochs=EPOCHS):
    """Let the place's search train long enough that something can happen to it."""
    schedule = {"trials": 2, "max_epochs": epochs, "grace": epochs}
    write_space(place.folder, schedule=schedule, **UNTAUGHT)


def recorded(place):
    return Counter((row.trial, row.epoch) for row in RunDirectory(place.out).epochs())


def wait_for_more(search, known):
    """Wait for an epoch that can't have been on its way already when `known` were on record."""
    last = {trial: max(epoch for number, epoch in known if number == trial) for trial, _ in known}
    while True:
        trial, epoch = EPOCH.search(search.wait_for(", epoch ")).groups()
        if int(epoch) > last[int(trial)] + 1:
            return


def assert_each_counted_once(place, epochs=EPOCHS):
    trials = RunDirectory(place.out).trials()
    assert {(trial.state, trial.epochs) for trial in trials} == {("COMPLETE", epochs)}
    counted = Counter((trial.number, epoch) for trial in trials for epoch in range(1, epochs + 1))
    assert recorded(place) == counted
    return trials


@pytest.mark.slow
@pytest.mark.parametrize("order", ["lose", "freeze"])
def test_a_node_that_is_gone_costs_no_trial(place, order):
    long_search(place)
    with Nodes(place.folder, [1, 1], **HEALTH) as nodes:
        flags = (*place.flags, "--max-concurrent", 2, "--address", nodes.address)
        search = place.start(*flags, **nodes.token)
        for number in (0, 1):
            search.wait_for(f"trial {number}, epoch")
        nodes.tell(order)
        gone, known = time.perf_counter(), recorded(place)
        wait_for_more(search, known)
        assert time.perf_counter() - gone < 10
        search.wait_for("goes on from epoch")
        nodes.tell("thaw")  # its workers find that they aren't wanted any more
        search.stop_at_export()
    trials = assert_each_counted_once(place)
    assert len(trials) == 2
    assert sum(len(trial.failures) for trial in trials) == 1


@pytest.mark.slow
def test_a_driver_killed_on_a_cluster_is_resumed(place):
    long_search(place)
    with Nodes(place.folder, [1, 1]) as nodes:
        flags = (*place.flags, "--max-concurrent", 2, "--address", nodes.address)
        search = place.start(*flags, **nodes.token)
        search.wait_for("trial 1, epoch 2")
        search.process.kill()
        search.end()
        place.start(*flags, "--resume", **nodes.token).stop_at_export()
    assert_each_counted_once(place)


@needs_hooks
@pytest.mark.slow
def test_a_node_that_joins_late_gets_trials(place):
    epochs = 4 * EPOCHS  # its first worker takes a while
    long_search(place, epochs)
    with Nodes(place.folder, [1]) as nodes:
        flags = (*place.flags, "--storage", place.folder / "shared", "--address", nodes.address)
        search = place.start(*flags, **nodes.token)
        search.wait_for("trial 0, epoch")
        nodes.tell("add")
        search.wait_for("trial 1, epoch 1 ")
        search.stop_at_export()
        assert {"00000.pt", "00001.pt"} <= {path.name for path in place.folder.glob("shared/*/*")}
        assert list((nodes.cache / "pictures").glob("*/32px-*"))  # nodes have a store of their own
    trials = assert_each_counted_once(place, epochs)
    assert len({trial.node for trial in trials}) == 2


@needs_hooks
@pytest.mark.slow
@pytest.mark.parametrize("share", ["1", "0.5"])
def test_no_gpu_is_over_booked_and_each_record_says_where(place, tmp_path, share):
    schedule = {"trials": 12, "max_epochs": 2, "grace": 2}
    write_space(place.folder, schedule=schedule, **UNTAUGHT)
    site, gpus = tmp_path / "site", tmp_path / "gpus"
    site.mkdir()
    gpus.mkdir()
    (site / "sitecustomize.py").write_text(FAKE_GPUS)
    paths = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    faked = {"PYTHONPATH": paths, "FAKE_GPUS": str(gpus), "FAKE_SHARE": share}
    with Nodes(place.folder, [4, 4], gpus=2, **faked) as nodes:
        flags = (*place.flags, "--device", "cuda", "--address", nodes.address)
        place.start(*flags, **nodes.token, **faked).stop_at_export()
    trials = RunDirectory(place.out).trials()
    assert [(trial.state, trial.reason) for trial in trials] == [("COMPLETE", None)] * 12
    assert len({(trial.node, trial.device) for trial in trials}) == 4
    assert len({trial.node for trial in trials}) == 2
    assert {trial.device for trial in trials} == {"cuda:0", "cuda:1"}


@pytest.fixture
def closed_port():
    """Return a port of this machine at which nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_an_address_without_a_cluster_is_refused_before_anything_is_done(place, closed_port, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed_port}")
    code, errors = command_line("search", *place.flags, environment=place.environment)
    assert code == 2
    assert errors.startswith(f"error: No Ray cluster answers at 127.0.0.1:{closed_port}: ")
    assert "RAY_ADDRESS" in errors
    assert not place.out.exists()


@pytest.mark.parametrize("address", ["nonsense", "host:port", ":6379"])
def test_an_address_that_is_none_is_refused(place, address):
    code, errors = command_line("search", *place.flags, "--address", address, environment=place.environment)
    assert code == 2
    assert errors.startswith(f"error: A cluster's address is HOST:PORT or auto, found '{address}'.")
    assert not place.out.exists()
