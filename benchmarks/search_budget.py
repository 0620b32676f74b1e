"""The epochs that a search trains until it has 99 % of all there is to find, against other people's searches.

All are replayed on the same recorded curves with the same number of trials side by side, and none trains an
epoch twice. The table is one that no default of hkbench was chosen on, the seeds too.
"""

import statistics
import time
from functools import partial
from typing import Any

from benchmarks.claim import Claim, machine, main
from benchmarks.tabular.budget import CONCURRENCY, SHARE, course_of
from benchmarks.tabular.ours import Hkbench
from benchmarks.tabular.peers import PEERS
from benchmarks.tabular.seeds import JUDGING, over_seeds
from benchmarks.tabular.table import JUDGED_ON, Table, load_table

TARGET = 0.5
QUICK_SEEDS = 2
QUICK_PEERS = ("nsga2_of_10", "tpe_pareto")
OURS = "hkbench"
SHOWN = (0.9, 0.95, SHARE)


def epochs_needed(name: str, table: Table, seed: int) -> dict[str, float]:
    """Return the epochs of work until each share was reached, by one strategy with one seed."""
    strategy = Hkbench(table, seed) if name == OURS else PEERS[name](table, seed)
    course = course_of(table, strategy, until=SHARE)
    return {f"{share:.0%}": course.epochs_to(share) for share in SHOWN} | {"end": course.end}


def measure(quick: bool) -> Claim:
    """Replay hkbench's search and its peers, and compare the medians of their epochs."""
    seeds = JUDGING[:QUICK_SEEDS] if quick else JUDGING
    rows = {name: _row(name, list(seeds)) for name in (OURS, *(QUICK_PEERS if quick else PEERS))}
    peers = {name: row for name, row in rows.items() if name != OURS}
    best = min(peers, key=lambda name: peers[name]["median_epochs"] or float("inf"))
    ours, theirs = rows[OURS]["median_epochs"], peers[best]["median_epochs"]
    value = ours / theirs if ours and theirs else float("inf")
    table = load_table(JUDGED_ON)
    return Claim(
        name="search_budget",
        value=value,
        unit="of the epochs of the best peer, median over seeds",
        target=f"at most {TARGET}",
        holds=value <= TARGET,
        details={
            "best_peer": best,
            "strategies": rows,
            "table": JUDGED_ON,
            "points": len(table.rows),
            "epochs_of_the_table": len(table.rows) * table.max_epochs,
            "concurrency": CONCURRENCY,
            "seeds": [seeds[0], seeds[-1]],
            **machine(threads=1),
        },
    )


def _row(name: str, seeds: list[int]) -> dict[str, Any]:
    """Return a strategy's figures; null where more than half of its seeds never got there."""
    begun = time.perf_counter()
    found = over_seeds(partial(epochs_needed, name), JUDGED_ON, seeds)
    row: dict[str, Any] = {"seconds": round(time.perf_counter() - begun, 1)}
    for share in SHOWN:
        epochs = [each[f"{share:.0%}"] for each in found]
        median = statistics.median(epochs)
        row[f"median_epochs_to_{share:.0%}"] = None if median == float("inf") else median
    row["median_epochs"] = row[f"median_epochs_to_{SHARE:.0%}"]
    row["never"] = sum(each[f"{SHARE:.0%}"] == float("inf") for each in found)
    row["median_share_at_the_end"] = statistics.median(each["end"] for each in found)
    row["epochs"] = [None if each[f"{SHARE:.0%}"] == float("inf") else each[f"{SHARE:.0%}"] for each in found]
    return row


if __name__ == "__main__":
    main(measure)
