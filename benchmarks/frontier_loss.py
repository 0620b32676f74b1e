"""What early stopping costs of the frontier, and what it saves: the same search with and without it."""

import statistics
from functools import partial
from typing import Any

from benchmarks.claim import Claim, machine, main
from benchmarks.tabular.budget import CONCURRENCY, course_of
from benchmarks.tabular.ours import Hkbench
from benchmarks.tabular.seeds import JUDGING, over_seeds
from benchmarks.tabular.table import JUDGED_ON, Table, load_table

KEPT = 0.99
SEEDS_SHARE = 0.95
SAVED = 0.40
QUICK_SEEDS = 6
POINTS_SHARE = 0.5
"""Of the table's points, so many are searched: by then a search knows what is good, as one does that is
left to run.
"""


def kept_and_saved(sampler: str, table: Table, seed: int) -> tuple[float, float]:
    """Return (hypervolume with stopping over that without, share of the epochs saved) of one seed."""
    points = round(POINTS_SHARE * len(table.rows))
    whole, stopped = (
        course_of(table, Hkbench(table, seed, sampler=sampler, stopping=stopping, points=points))
        for stopping in (False, True)
    )
    return stopped.end / whole.end, 1 - stopped.replayed.epochs / whole.replayed.epochs


def measure(quick: bool) -> Claim:
    """Search half of a table's points with and without stopping, from many seeds."""
    seeds = list(JUDGING[:QUICK_SEEDS] if quick else JUDGING)
    rows = {name: _row(name, seeds) for name in ("frontier", "random")}
    found = rows["frontier"]
    table = load_table(JUDGED_ON)
    return Claim(
        name="frontier_loss",
        value=found["seeds_that_keep_it"],
        unit=f"of the seeds keep {KEPT:.0%} of the hypervolume",
        target=f"at least {SEEDS_SHARE}, with {SAVED:.0%} of the epochs saved",
        holds=found["seeds_that_keep_it"] >= SEEDS_SHARE and found["median_saved"] >= SAVED,
        details={
            "saved": found["median_saved"],
            "samplers": rows,
            "table": JUDGED_ON,
            "points": len(table.rows),
            "concurrency": CONCURRENCY,
            "seeds": [seeds[0], seeds[-1]],
            **machine(threads=1),
        },
    )


def _row(sampler: str, seeds: list[int]) -> dict[str, Any]:
    found = over_seeds(partial(kept_and_saved, sampler), JUDGED_ON, seeds)
    kept, saved = zip(*found, strict=True)
    return {
        "seeds_that_keep_it": sum(each >= KEPT for each in kept) / len(kept),
        "least_kept": min(kept),
        "median_kept": statistics.median(kept),
        "median_saved": statistics.median(saved),
        "least_saved": min(saved),
        "kept": [round(each, 4) for each in kept],
        "saved": [round(each, 4) for each in saved],
    }


if __name__ == "__main__":
    main(measure)
