"""A search on a Ray cluster that is there already, and addresses at which there is none."""

import os
import secrets
import socket
import subprocess
import sys

import pytest
from search_command import Place, command_line
from search_fakes import draw_pictures, write_space

from hkbench.store.records import TelemetryRecord
from hkbench.store.rundir import RunDirectory

pytestmark = pytest.mark.ray

TWO_NODES = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


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
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with subprocess.Popen(
        [sys.executable, "-c", TWO_NODES],
        env=os.environ | token,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as nodes:
        address = nodes.stdout.readline().strip()
        assert address, "the cluster did not start"
        yield address, token


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
