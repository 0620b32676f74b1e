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
QUICK_SEEDS = 2
HALF = 0.5


def kept_and_saved(sampler: str, share: float, table: Table, seed: int) -> tuple[float, float]:
    """Return (hypervolume with stopping over that without, share of the epochs saved) of one seed.

    Args:
        sampler: that proposes.
        share: of the table's points that are searched. Of all of them there is no need to try it without
            stopping: that trains every epoch and finds all there is.
        table: answers.
        seed: of the sampler.
    """
    points = round(share * len(table.rows))
    stopped = course_of(table, Hkbench(table, seed, sampler=sampler, points=points))
    if points == len(table.rows):
        return stopped.end, 1 - stopped.replayed.epochs / (points * table.max_epochs)
    whole = course_of(table, Hkbench(table, seed, sampler=sampler, stopping=False, points=points))
    return stopped.end / whole.end, 1 - stopped.replayed.epochs / whole.replayed.epochs


def measure(quick: bool) -> Claim:
    """Search all points of a table with and without stopping, and half of them, from many seeds."""
    seeds = list(JUDGING[:QUICK_SEEDS] if quick else JUDGING)
    rows = {"frontier": _row("frontier", 1.0, seeds)}
    if not quick:
        rows |= {
            "random": _row("random", 1.0, seeds),
            "frontier, half of the points": _row("frontier", HALF, seeds),
        }
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
            "searches": rows,
            "table": JUDGED_ON,
            "points": len(table.rows),
            "concurrency": CONCURRENCY,
            "seeds": [seeds[0], seeds[-1]],
            **machine(threads=1),
        },
    )


def _row(sampler: str, share: float, seeds: list[int]) -> dict[str, Any]:
    found = over_seeds(partial(kept_and_saved, sampler, share), JUDGED_ON, seeds)
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
