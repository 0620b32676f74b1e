"""How the trials of a search come to share GPUs: what is measured before the first of them."""

import math
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import torch

from hkbench.config import usable_cores
from hkbench.driver.cluster import Node, cores_per_gpu
from hkbench.driver.gpu_estimates import Kind
from hkbench.driver.gpu_packing import GpuPacking, data_bytes_of, parts_for
from hkbench.driver.plan import SearchPlan
from hkbench.driver.ray_nodes import nodes_now, smallest_gpu_of_all
from hkbench.driver.shares import GpuShares
from hkbench.errors import HkbenchError
from hkbench.spaces.settings import TrialSettings
from hkbench.spaces.space import Space
from hkbench.store.rundir import RunDirectory
from hkbench.study.points import random_points
from hkbench.training.gpu_memory import GpuMemory, smallest_gpu
from hkbench.training.memory_probe import Prober
from hkbench.training.memory_process import known_or_probed
from hkbench.trials.shared import SharedData

DRAWN = 256
"""So many points say which networks a space is mostly about."""
MOST_PROBED = 16
"""A probe takes some seconds. Networks beyond these have whole devices until they were trained."""


def trials_on_gpus(device: str) -> tuple[int, int] | None:
    """Return how many trials may be on this machine's GPUs at once, and the threads of one that is alone.

    None on a CPU.
    """
    gpus = torch.cuda.device_count() if device != "cpu" else 0
    if not gpus:
        return None
    cores = usable_cores()
    return gpus * max(parts_for(cores // gpus)), max(1, cores // gpus)


def gpu_shares(
    plan: SearchPlan,
    shared: SharedData,
    run: RunDirectory,
    *,
    look: Callable[[], list[Node]] = nodes_now,
    gpu: Callable[[], GpuMemory | None] | None = None,
    prober: Prober | None = None,
) -> GpuShares | None:
    """Return the shares of a search's trials, its networks probed; None where it has no GPUs to share.

    Ray must be up. On a cluster nothing is probed, for the driver may have no GPU: each network has whole
    devices until one epoch of it has told its memory. Nor is it for a quick search.

    Args:
        plan: of the search.
        shared: what its trials read.
        run: holds what trials of an earlier run took.
        look: returns the nodes that are there.
        gpu: returns the smallest GPU of all.
        prober: measures networks.
    """
    nodes = look() if plan.device != "cpu" else []
    cores = cores_per_gpu(nodes)
    if cores is None:
        return None
    if plan.concurrency is not None:  # fewer trials than there might be have larger shares
        cores = min(cores, math.ceil(plan.concurrency / sum(int(node.gpus) for node in nodes)))
    here = plan.address is None
    found = (gpu or (smallest_gpu if here else smallest_gpu_of_all))()
    if found is None:
        return None
    packing = GpuPacking(
        device_bytes=found.total_bytes,
        cores_per_gpu=int(cores),
        data_bytes=data_bytes_of(shared),
        held_bytes=found.held_bytes,
    )
    if here and not plan.quick:
        known = prober or partial(known_or_probed, device_model=found.model)
        packing.probe(likely_trials(plan.space, plan.seed), len(shared.classes), prober=known)
    shares = GpuShares(packing, look, most=plan.concurrency)
    shares.recall(run, plan.space)
    return shares


def likely_trials(space: Space, seed: int) -> list[TrialSettings]:
    """Return settings to probe a space by: those of its commonest kinds, of seed points and drawn ones."""
    points = [params for _, params in space.seed_points()] + random_points(space, DRAWN, seed)
    trials = []
    for params in points:
        with suppress(HkbenchError):  # a combination that no check of the space had met
            trials.append(space.settings(params))
    kinds = Counter(map(Kind.of, trials))
    likely = {kind for kind, _ in kinds.most_common(MOST_PROBED)}
    return [settings for settings in trials if Kind.of(settings) in likely]
