"""What a cluster's nodes have, what a trial asks of them, and how many trials they hold at once.

Knows nothing of Ray but the form of what `ray.nodes()` returns.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from hkbench.errors import UsageError

UNITS = 10_000
"""Ray counts a resource in ten-thousandths."""
LOOK_EVERY_S = 2.0
ID_CHARACTERS = 8


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine of the cluster, or a part of one, with what Ray may give away of it."""

    name: str
    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TrialResources:
    """What one trial holds: cores, a share of a GPU (0 for none), and the threads that it trains with.

    `memory_fraction` is the part of the GPU's memory that it may reserve; None for no limit.
    """

    cpus: float
    gpus: float
    threads: int
    memory_fraction: float | None = None

    def as_ray(self) -> dict[str, float]:
        """Return them as Ray names them."""
        return {"cpu": self.cpus, "gpu": self.gpus}


def node_name(host: str, node_id: str) -> str:
    """Return what records call a node: its host, and Ray's id where several are on one host."""
    return f"{host}-{node_id[:ID_CHARACTERS]}"


def device_name(device: str, accelerators: Sequence[str]) -> str:
    """Return what records call a trial's device: of several GPUs of a node, Ray's number says which."""
    return f"cuda:{accelerators[0]}" if device == "cuda" and accelerators else device


def nodes_of(rows: Iterable[Mapping[str, Any]]) -> list[Node]:
    """Return the nodes that are alive, from what `ray.nodes()` returns."""
    return [
        Node(
            name=node_name(row["NodeManagerHostname"], row["NodeID"]),
            cpus=float(row["Resources"].get("CPU", 0)),
            gpus=float(row["Resources"].get("GPU", 0)),
        )
        for row in rows
        if row["Alive"]
    ]


def cores_per_gpu(nodes: Iterable[Node]) -> float | None:
    """Return the cores of each GPU on the node that has the fewest; None where no node has a GPU."""
    return min((node.cpus / node.gpus for node in nodes if node.gpus >= 1 and node.cpus > 0), default=None)


def resources_of(nodes: Sequence[Node], *, threads: int, gpu_share: float = 1.0) -> TrialResources:
    """Return what a trial asks for: a GPU share where any node has GPUs, else whole CPU cores.

    All trials of a share ask for the same, so that a worker can be kept from trial to trial. Beside its GPU
    a trial takes the cores of that GPU, as divided as it is, of the node that has the fewest: so all are
    used. On nodes without GPUs nothing is trained then. Of CPU nodes, those with fewer cores than threads
    hold none.

    Args:
        nodes: at least one.
        threads: of a trial on a CPU; no more than the largest node has cores.
        gpu_share: one over a whole number, as Ray counts it.

    Raises:
        UsageError: no node has a core.
    """
    beside = cores_per_gpu(nodes)
    if beside is not None:
        cores = beside / round(1 / gpu_share)
        cpus = float(int(cores)) if cores >= 1 else int(cores * UNITS) / UNITS
        return TrialResources(cpus=cpus, gpus=gpu_share, threads=max(1, int(cores)))
    most = int(max((node.cpus for node in nodes), default=0))
    if most < 1:
        raise UsageError("The cluster has no node with a CPU core or a GPU to train on.")
    cpus = min(threads, most)
    return TrialResources(cpus=cpus, gpus=0.0, threads=cpus)


def trials_at_once(nodes: Iterable[Node], each: TrialResources) -> int:
    """Return how many trials the nodes hold together, none over-booked."""
    return sum(_on(node, each) for node in nodes)


def _on(node: Node, each: TrialResources) -> int:
    """Return how many trials a node holds: a share is of one GPU, so what is left of two makes none."""
    limits = []
    if each.cpus:
        limits.append(int(_exact(node.cpus) / _exact(each.cpus)))
    if 0 < each.gpus < 1:
        limits.append(int(node.gpus) * int(1 / _exact(each.gpus)))
    elif each.gpus:
        limits.append(int(_exact(node.gpus) / _exact(each.gpus)))
    return min(limits, default=0)


def _exact(amount: float) -> Fraction:
    return Fraction(round(amount * UNITS), UNITS)


class NodesNow:
    """The nodes that are there: they come and go, and are looked at every two seconds at most."""

    def __init__(
        self, look: Callable[[], Sequence[Node]], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._look = look
        self._clock = clock
        self._looked_at: float | None = None
        self._nodes: Sequence[Node] = ()

    def __call__(self) -> Sequence[Node]:
        """Return them as they were last seen."""
        now = self._clock()
        if self._looked_at is None or now - self._looked_at >= LOOK_EVERY_S:
            self._nodes, self._looked_at = self._look(), now
        return self._nodes


class Capacity:
    """How many trials may be under way on a cluster now; nodes come and go.

    Each trial that waits for a node has been proposed too early, so no more are asked for than there is room.
    """

    def __init__(
        self,
        look: Callable[[], Sequence[Node]],
        each: TrialResources,
        *,
        most: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`look` returns the nodes that are there; `most` is the user's limit."""
        self._nodes = NodesNow(look, clock)
        self._each = each
        self._most = most

    @property
    def at_once(self) -> int:
        """How many trials there is room for, at least 1: a node may come back."""
        room = max(1, trials_at_once(self._nodes(), self._each))
        return room if self._most is None else min(room, self._most)
