"""The shipped cluster file, by Ray's own validation and by what that doesn't look at."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

FILE = Path(__file__).parents[2] / "ray_cluster.yaml"


@pytest.fixture
def cluster() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return found


def test_ray_accepts_the_file(cluster: dict[str, Any]) -> None:
    prepared = prepare_config(cluster)
    validate_config(prepared)
    assert prepared["max_workers"] == len(cluster["provider"]["worker_ips"])


def test_every_machine_is_named_once(cluster: dict[str, Any]) -> None:
    provider = cluster["provider"]
    assert provider["worker_ips"]
    machines = [provider["head_ip"], *provider["worker_ips"]]
    assert len(set(machines)) == len(machines)


def test_the_token_is_all_that_is_copied(cluster: dict[str, Any]) -> None:
    # Ray checks no path of file_mounts: one that isn't there fails in the middle of `ray up`.
    assert cluster["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}


@pytest.mark.parametrize("commands", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_every_start_spells_out_the_mode_of_authentication(cluster: dict[str, Any], commands: str) -> None:
    starts = [command for command in cluster[commands] if re.search(r"\bray start\b", command)]
    assert len(starts) == 1
    assert "RAY_AUTH_MODE=token" in starts[0].split("ray start")[0]


def test_workers_join_the_port_that_the_head_opens(cluster: dict[str, Any]) -> None:
    head, worker = cluster["head_start_ray_commands"][-1], cluster["worker_start_ray_commands"][-1]
    port = re.search(r"--port=(\d+)", head)
    assert port is not None
    assert f"--address=$RAY_HEAD_IP:{port[1]}" in worker


def test_a_misspelt_key_is_refused(cluster: dict[str, Any]) -> None:
    cluster["worker_start_ray_comands"] = []
    with pytest.raises(Exception, match="worker_start_ray_comands"):
        validate_config(prepare_config(cluster))
