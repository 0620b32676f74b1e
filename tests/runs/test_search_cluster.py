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
from fakes_in_processes import sitecustomize
from search_command import Place, command_line
from search_fakes import draw_pictures, write_space

from hkbench.store.records import TelemetryRecord
from hkbench.store.rundir import RunDirectory

pytestmark = pytest.mark.ray

NODES = '''
import sys
import psutil
from ray.cluster_utils import Cluster

def raylet_and_workers(node):
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return [raylet, *raylet.children(recursive=True)]

head, *others = map(int, sys.argv[1].split(","))
gpus, caches = int(sys.argv[2]), sys.argv[3]
count = 0

def resources(cpus):
    """What a node has; its cache is a folder of its own, as on a machine of its own."""
    global count
    count += 1
    return {"num_cpus": cpus, "num_gpus": gpus, "env_vars": {"HKBENCH_CACHE": f"{caches}/{count}"}}

cluster = Cluster(initialize_head=True, head_node_args=resources(head) | {"include_dashboard": False})
nodes = [cluster.add_node(**resources(each)) for each in others]
print(cluster.address, flush=True)
stopped = []
for line in sys.stdin:
    order = line.strip()
    if order == "add":
        nodes.append(cluster.add_node(**resources(1)))
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
'''
HEALTH = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "4",
}
FAKES = sitecustomize("""
import os
import time
from pathlib import Path

GPUS, SHARE = Path(os.environ["FAKES"]), os.environ.get("FAKE_SHARE")
MEET_WITHIN_S = 180

def fake_plan(module):
    '''Let the driver have a GPU.'''
    module.check_device = lambda name: None

def fake_nodes(module):
    '''Let the nodes' GPUs be all alike.'''
    gpu = module.GpuMemory(model="made up", total_bytes=16 << 30, held_bytes=0)
    module.smallest_gpu_of_all = lambda: gpu

def fake_packing(module):
    '''Let packing have measured that so many trials share a GPU.'''
    module.GpuPacking.share_of = lambda self, settings: float(SHARE)
    module.GpuPacking.least_share = property(lambda self: float(SHARE))
    module.GpuPacking.memory_fraction = lambda self, share: None

def fake_trial(module):
    '''Train on the CPU whatever is asked for, and let no place hold two trials; the first ones meet.'''
    train_on_the_cpu(module)
    results = module.TrialRun.results
    def at_a_place(run, data):
        with a_place() as lock:
            meet(lock.lock_file)
            yield from results(run, data)
    module.TrialRun.results = at_a_place

def a_place():
    '''Take a node's share of one of its GPUs, or one of a node without GPUs.'''
    import ray
    from filelock import FileLock, Timeout
    here = ray.get_runtime_context()
    gpu = here.get_accelerator_ids()["GPU"][0] if SHARE else "none"
    for share in range(round(1 / float(SHARE or 1))):
        lock = FileLock(GPUS / f"{here.get_node_id()}-{gpu}-{share}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        return lock
    raise RuntimeError(f"GPU {gpu} is over-booked")

def meet(place):
    '''Wait until all places have been taken: none is left idle, and no quick trial runs ahead.'''
    Path(place).with_suffix(".taken").touch()
    until = time.monotonic() + MEET_WITHIN_S
    while len(list(GPUS.glob("*.taken"))) < int(os.environ["MEET"]):
        if time.monotonic() > until:
            raise RuntimeError("some place was never taken")
        time.sleep(0.1)

FAKED = {"hkbench.trials.trial": fake_trial}
if SHARE:
    FAKED |= {
        "hkbench.driver.plan": fake_plan,
        "hkbench.driver.ray_nodes": fake_nodes,
        "hkbench.driver.gpu_packing": fake_packing,
    }
""")
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


class Nodes:
    """A cluster on this machine, in a process of its own that is told what becomes of its last node."""

    def __init__(self, folder, cpus, *, gpus=0, **variables):
        self.token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.caches = folder / "caches of nodes"
        self.process = subprocess.Popen(
            [sys.executable, "-c", NODES, ",".join(map(str, cpus)), str(gpus), str(self.caches)],
            env=os.environ | self.token | variables,
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


def fakes(folder, meet, share=None):
    """Return the variables with which trials take places, of which so many are taken before any trains."""
    site, places = folder / "site", folder / "places"
    site.mkdir()
    places.mkdir()
    (site / "sitecustomize.py").write_text(FAKES)
    paths = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    found = {"PYTHONPATH": paths, "FAKES": str(places), "MEET": str(meet)}
    return found if share is None else found | {"FAKE_SHARE": share}


def short_search(place, trials):
    write_space(place.folder, schedule={"trials": trials, "max_epochs": 2, "grace": 2}, **UNTAUGHT)


def test_a_node_that_joins_late_gets_trials_and_shares_nothing_but_the_storage(place):
    short_search(place, trials=2)
    storage = place.folder / "storage"
    study = storage / "study.log"
    faked = fakes(place.folder, meet=2)
    with Nodes(place.folder, [1], **faked) as nodes:
        flags = (*place.flags, "--storage", storage, "--storage", f"journal:{study}")
        search = place.start(*flags, "--address", nodes.address, **nodes.token, **faked)
        search.wait_for("trial 0")
        nodes.tell("add")
        search.stop_at_export()
        stores = [list(nodes.caches.glob(f"{number}/pictures/*/32px-*/pictures.npy")) for number in (1, 2)]
    trials = RunDirectory(place.out).trials()
    assert [(trial.state, trial.epochs) for trial in trials] == [("COMPLETE", 2)] * 2
    assert len({trial.node for trial in trials}) == 2
    assert [len(each) for each in stores] == [1, 1]  # each node has one store of its own
    assert study.is_file()
    assert not (place.out / "study.log").exists()
    assert {path.name for path in storage.glob("*/*.pt")} == {"00000.pt", "00001.pt"}
    assert not list(place.out.rglob("*.pt"))


@pytest.mark.slow
@pytest.mark.parametrize("share", ["1", "0.5"])
def test_no_gpu_is_over_booked_or_idle_and_each_record_says_where(place, share):
    short_search(place, trials=12)
    faked = fakes(place.folder, meet=round(4 / float(share)), share=share)
    with Nodes(place.folder, [4, 4], gpus=2, **faked) as nodes:
        flags = (*place.flags, "--device", "cuda", "--address", nodes.address)
        place.start(*flags, **nodes.token, **faked).stop_at_export()
    trials = RunDirectory(place.out).trials()
    assert [(trial.state, trial.reason) for trial in trials] == [("COMPLETE", None)] * 12
    places = Counter((trial.node, trial.device) for trial in trials)
    assert len({node for node, _ in places}) == 2
    assert {device for _, device in places} == {"cuda:0", "cuda:1"}
    assert len(places) == 4
    assert min(places.values()) >= round(1 / float(share))


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
