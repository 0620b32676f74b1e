"""What Ray's nodes have, and what their GPUs are: asked of Ray, and of a process on each node."""

import logging

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hkbench.driver.cluster import Node, nodes_of
from hkbench.training.gpu_memory import GpuMemory, smallest_gpu

log = logging.getLogger(__name__)

ANSWER_WITHIN_S = 120.0
"""The first process of a node that imports torch takes a while."""


def nodes_now() -> list[Node]:
    """Return the nodes that are alive."""
    return nodes_of(ray.nodes())


def smallest_gpu_of_all() -> GpuMemory | None:
    """Return what the GPUs of all nodes have, the least memory and the most of it held; None if unknown.

    On each node with GPUs a process that Ray gives all of them looks, and ends. So it is to be asked before
    there are trials.
    """
    rows = [row for row in ray.nodes() if row["Alive"] and row["Resources"].get("GPU", 0) >= 1]
    # A process that has seen a GPU keeps a part of its memory: it is for this one look.
    look = ray.remote(max_calls=1)(smallest_gpu)
    asked = [
        look.options(
            num_cpus=0,
            num_gpus=row["Resources"]["GPU"],
            scheduling_strategy=NodeAffinitySchedulingStrategy(row["NodeID"], soft=False),
        ).remote()
        for row in rows
    ]
    try:
        found: list[GpuMemory | None] = ray.get(asked, timeout=ANSWER_WITHIN_S)
    except (RayError, RuntimeError) as error:
        log.warning("trials don't share GPUs: their memory can't be read: %s", str(error).splitlines()[0])
        return None
    known = [each for each in found if each is not None]
    if not known or len(known) < len(found):
        log.warning("trials don't share GPUs: torch finds none on a node that has some by Ray's count")
        return None
    smallest = min(known, key=lambda each: each.total_bytes)
    return GpuMemory(
        model=smallest.model,
        total_bytes=smallest.total_bytes,
        held_bytes=max(each.held_bytes for each in known),
    )
