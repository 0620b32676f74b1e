"""What a trial asks of a cluster, and how many trials there is room for; nothing of it needs Ray."""

import pytest

from hkbench.driver.cluster import (
    LOOK_EVERY_S,
    Capacity,
    Node,
    TrialResources,
    device_name,
    node_name,
    nodes_of,
    resources_of,
    trials_at_once,
)
from hkbench.errors import UsageError

GPU_NODE = Node(name="gpu", cpus=8, gpus=2)
SMALL_GPU_NODE = Node(name="small", cpus=2, gpus=1)
CPU_NODE = Node(name="cpu", cpus=6)


def row(host, identity, *, alive=True, **resources):
    return {"NodeManagerHostname": host, "NodeID": identity, "Alive": alive, "Resources": resources}


def test_nodes_are_read_as_ray_tells_them():
    rows = [
        row("a", "0123456789ab", CPU=4.0, GPU=1.0, memory=9.0),
        row("a", "fedcba987654", CPU=2.0),
        row("b", "00000000dead", alive=False),
    ]
    assert nodes_of(rows) == [
        Node(name="a-01234567", cpus=4, gpus=1),
        Node(name="a-fedcba98", cpus=2, gpus=0),
    ]


def test_names_tell_nodes_of_a_host_and_devices_of_a_node_apart():
    assert node_name("host", "0123456789ab") != node_name("host", "fedcba987654")
    assert [device_name("cuda", [each]) for each in "01"] == ["cuda:0", "cuda:1"]
    assert device_name("cpu", []) == "cpu"
    assert device_name("cuda", []) == "cuda"


@pytest.mark.parametrize(
    ("nodes", "threads", "share", "expected", "at_once"),
    [
        ([GPU_NODE], 1, 1.0, TrialResources(cpus=4, gpus=1.0, threads=4), 2),
        ([GPU_NODE], 1, 0.5, TrialResources(cpus=2, gpus=0.5, threads=2), 4),
        ([GPU_NODE, SMALL_GPU_NODE], 1, 1.0, TrialResources(cpus=2, gpus=1.0, threads=2), 3),
        ([GPU_NODE, SMALL_GPU_NODE], 1, 0.3333, TrialResources(cpus=0.6666, gpus=0.3333, threads=1), 9),
        ([GPU_NODE, CPU_NODE], 2, 1.0, TrialResources(cpus=4, gpus=1.0, threads=4), 2),
        ([CPU_NODE, CPU_NODE], 2, 1.0, TrialResources(cpus=2, gpus=0.0, threads=2), 6),
        ([CPU_NODE, Node(name="tiny", cpus=1)], 4, 1.0, TrialResources(cpus=4, gpus=0.0, threads=4), 1),
        ([CPU_NODE], 16, 1.0, TrialResources(cpus=6, gpus=0.0, threads=6), 1),
        ([Node(name="head", cpus=0), CPU_NODE], 1, 1.0, TrialResources(cpus=1, gpus=0.0, threads=1), 6),
    ],
)
def test_a_trial_asks_for_a_gpu_share_where_there_are_gpus_else_for_cores(
    nodes, threads, share, expected, at_once
):
    found = resources_of(nodes, threads=threads, gpu_share=share)
    assert found == expected
    assert trials_at_once(nodes, found) == at_once
    assert found.as_ray() == {"cpu": expected.cpus, "gpu": expected.gpus}


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize(("cpus", "gpus"), [(8, 2), (1, 2), (3, 4), (64, 8), (5, 1)])
def test_no_device_is_over_booked_and_none_left_idle(parts, cpus, gpus):
    node = Node(name="node", cpus=cpus, gpus=gpus)
    each = resources_of([node], threads=1, gpu_share=10_000 // parts / 10_000)
    held = trials_at_once([node], each)
    assert held == gpus * parts
    assert held * each.cpus <= cpus
    assert each.gpus * parts <= 1


def test_a_cluster_without_cores_is_refused():
    with pytest.raises(UsageError, match="no node with a CPU core"):
        resources_of([Node(name="head", cpus=0)], threads=1)


def test_room_follows_the_nodes_and_the_user_s_limit():
    now, nodes, looks = [0.0], [CPU_NODE], []

    def look():
        looks.append(now[0])
        return list(nodes)

    each = resources_of(nodes, threads=2)
    capacity = Capacity(look, each, clock=lambda: now[0])
    limited = Capacity(look, each, most=4, clock=lambda: now[0])
    assert (capacity.at_once, limited.at_once) == (3, 3)
    nodes.append(CPU_NODE)
    assert capacity.at_once == 3
    assert len(looks) == 2  # the cluster isn't asked each time
    now[0] = LOOK_EVERY_S
    assert (capacity.at_once, limited.at_once) == (6, 4)
    nodes.clear()
    now[0] *= 2
    assert capacity.at_once == 1
