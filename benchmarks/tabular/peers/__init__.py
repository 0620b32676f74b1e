"""Other people's strategies, driven by the simulator: `PEERS[name](table, seed)` is a `Strategy`.

`tune` drives Ray Tune's own searchers and schedulers, `moasha` syne-tune's. Each is set up as its
documentation shows, with its defaults; a point that one of them proposes again is passed on as it comes.
"""

from collections.abc import Callable

from benchmarks.tabular.peers.moasha import moasha, moasha_as_in_paper
from benchmarks.tabular.peers.tune import (
    nsga2,
    random_asha,
    tpe_asha,
    tpe_pareto,
    tpe_pareto_asha,
)
from benchmarks.tabular.simulator import Strategy
from benchmarks.tabular.table import Table

PEERS: dict[str, Callable[[Table, int], Strategy]] = {
    "random_asha": random_asha,
    "tpe_asha": tpe_asha,
    "tpe_pareto_asha": tpe_pareto_asha,
    "tpe_pareto": tpe_pareto,
    "nsga2_of_10": nsga2(10),
    "nsga2_of_20": nsga2(20),
    "nsga2_of_50": nsga2(50),
    "moasha": moasha,
    "moasha_as_in_paper": moasha_as_in_paper,
}
"""Name → how the strategy is built from a table and a seed; NSGA-II's number is its population."""
