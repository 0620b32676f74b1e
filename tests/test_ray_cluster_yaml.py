"""Both shipped cluster files, by Ray's own validation and by what that doesn't look at."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
ON_PREMISES, CLOUD = "ray_cluster.yaml", "ray_cluster_cloud.yaml"


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return found


@pytest.fixture(params=[ON_PREMISES, CLOUD])
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read(request.param)


def starts(cluster: dict[str, Any]) -> dict[str, str]:
    """Return the commands that start Ray, on the head and on workers."""
    found = {}
    for who in ("head", "worker"):
        (found[who],) = [
            command
            for command in cluster[f"{who}_start_ray_commands"]
            if re.search(r"\bray start\b", command)
        ]
    return found


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    prepared = prepare_config(cluster)
    validate_config(prepared)
    assert prepared["max_workers"] > 0


def test_ray_refuses_a_misspelt_key(cluster: dict[str, Any]) -> None:
    cluster["worker_start_ray_comands"] = []
    with pytest.raises(Exception, match="worker_start_ray_comands"):
        validate_config(prepare_config(cluster))


def test_every_start_spells_out_the_mode_of_authentication(cluster: dict[str, Any]) -> None:
    for command in starts(cluster).values():
        assert "RAY_AUTH_MODE=token" in command.split("ray start")[0]


def test_the_token_is_all_that_is_copied(cluster: dict[str, Any]) -> None:
    # Ray checks no path of file_mounts: one that isn't there fails in the middle of `ray up`.
    assert cluster["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}


def test_workers_join_the_port_that_the_head_opens(cluster: dict[str, Any]) -> None:
    commands = starts(cluster)
    port = re.search(r"--port=(\d+)", commands["head"])
    assert port is not None
    assert f"--address=$RAY_HEAD_IP:{port[1]}" in commands["worker"]
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in commands["head"]


def test_the_list_of_machines_is_not_empty() -> None:
    provider = read(ON_PREMISES)["provider"]
    machines = [provider["head_ip"], *provider["worker_ips"]]
    assert len(machines) > 1
    assert len(set(machines)) == len(machines)


def test_workers_are_started_in_the_cloud_and_their_resources_are_ray_s_to_read() -> None:
    cluster = read(CLOUD)
    types = cluster["available_node_types"]
    workers = {name: kind for name, kind in types.items() if name != cluster["head_node_type"]}
    assert cluster["head_node_type"] in types
    assert sum(kind["min_workers"] for kind in workers.values()) > 0
    assert all(kind["max_workers"] <= cluster["max_workers"] for kind in workers.values())
    declared = {resource for kind in types.values() for resource in kind["resources"]}
    assert declared <= {"CPU", "GPU"}


@pytest.mark.parametrize("name", [ON_PREMISES, CLOUD])
def test_the_comments_and_the_guide_name_the_commands(name: str) -> None:
    comments = (ROOT / name).read_text(encoding="utf-8")
    guide = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    for command in (f"ray up {name}", f"ray attach {name}", f"ray down {name}", "RAY_AUTH_MODE=token"):
        assert command in comments
        assert command in guide
