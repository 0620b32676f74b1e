"""What trials hold of a machine or a cluster, as Ray Tune is told, and whether there is room for another."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ray import tune

from hkbench.driver.cluster import Capacity, TrialResources, resources_of
from hkbench.driver.plan import SearchPlan
from hkbench.driver.ray_nodes import nodes_now
from hkbench.driver.session import SearchSession
from hkbench.driver.shares import GpuShares

MOST_AT_ONCE = 1000
"""Where the room is what limits."""


@dataclass(frozen=True, kw_only=True)
class Placing:
    """How Ray places trials: what it gives to each, with how many `threads` that has no share of its own.

    No trial is asked for as long as there is no room: it would be proposed too early.
    """

    resources: dict[str, float] | Callable[[dict[str, Any]], tune.PlacementGroupFactory]
    threads: int
    most_at_once: int | None
    has_room: Callable[[], bool] = lambda: True


def placing_of(plan: SearchPlan, session: SearchSession) -> Placing:
    """Return how the trials of a session are placed. Ray must be up."""
    shares = session.shares
    if isinstance(shares, GpuShares):
        return Placing(
            resources=_held,
            threads=plan.threads,
            most_at_once=MOST_AT_ONCE,
            has_room=lambda: shares.has_room,
        )
    if plan.address is None:
        each = TrialResources(cpus=plan.threads, gpus=plan.gpu_share, threads=plan.threads)
        return Placing(resources=each.as_ray(), threads=each.threads, most_at_once=plan.concurrency)
    nodes = nodes_now()
    if plan.gpu_share == 0:
        nodes = [replace(node, gpus=0.0) for node in nodes]
    each = resources_of(nodes, threads=plan.threads, gpu_share=plan.gpu_share)
    capacity = Capacity(nodes_now, each, most=plan.concurrency)
    return Placing(
        resources=each.as_ray(),
        threads=each.threads,
        most_at_once=MOST_AT_ONCE,
        has_room=lambda: session.live < capacity.at_once,
    )


def _held(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """Return what a trial holds that has a share of its own."""
    held: TrialResources = config["held"]
    return tune.PlacementGroupFactory([{"CPU": held.cpus, "GPU": held.gpus}])
