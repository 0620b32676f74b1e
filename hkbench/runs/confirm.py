"""The best of the frontier trained again from fresh seeds, so that a lucky seed isn't the winner.

A confirmation is a trial of the study and has a record as every other; that names the trial it confirms.
It isn't one of the search: no sampler and no halving rule sees it, and it is never on the frontier.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray

from hkbench.analysis.frontier import pareto_ranks
from hkbench.analysis.trials import is_feasible, losses_of
from hkbench.store.findings import ConfirmedRecord
from hkbench.store.records import TrialRecord
from hkbench.study.ask_tell import AskTell
from hkbench.study.points import Asked

SEEDS = 3
FIRST_SEED = 1001
"""Fresh seeds are counted from here, without those that the search has used."""
ROOM = 0.1
"""The reference point of the volume lies so far behind the worst of the frontier, in shares of its range."""
LEVEL = 0.95
COLUMNS = ("trial", "network", "seeds", "accuracy, mean", "95 %", "spread", "as found")
"""Of `confirmed_rows`, in order."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A confirmation that is to be trained: the point of trial `confirms`, from `seed`."""

    confirms: int
    params: dict[str, Any]
    seed: int

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"trial {self.confirms} again, seed {self.seed}"


def confirmations(
    trials: Sequence[TrialRecord], objectives: Mapping[str, str], k: int, seeds: int = SEEDS
) -> list[Wanted]:
    """Return the trainings that confirm the `k` best trials and haven't ended yet, seed by seed.

    All trials get the same fresh seeds. The first seed of all comes first, so that a search that is cut off
    leaves as many of every trial as it can. One that failed isn't asked for again.
    """
    ended = {(trial.confirms, trial.settings.get("seed")) for trial in trials if trial.confirms is not None}
    points = {trial.number: trial.params for trial in trials}
    chosen = best_of_frontier(trials, objectives, k)
    return [
        Wanted(confirms=number, params=points[number], seed=seed)
        for seed in _fresh_seeds(trials, seeds)
        for number in chosen
        if (number, seed) not in ended
    ]


def due(
    study: AskTell, trials: Sequence[TrialRecord], objectives: Mapping[str, str], k: int, seeds: int = SEEDS
) -> list[Asked]:
    """Ask the study for the confirmations that are missing, after those that were cut off."""
    begun = study.additions.confirming() if k else []
    known = {(asked.confirms, asked.seed) for asked in begun}
    return begun + [
        study.additions.confirm(wanted.params, wanted.confirms, wanted.seed, wanted.name)
        for wanted in confirmations(trials, objectives, k, seeds)
        if (wanted.confirms, wanted.seed) not in known
    ]


def best_of_frontier(trials: Sequence[TrialRecord], objectives: Mapping[str, str], k: int) -> list[int]:
    """Return the numbers of the `k` best trials of a search, the most accurate one first.

    After it, always the one of the frontier that adds most to the volume that those before it dominate: the
    greedy way to a subset of large hypervolume (Guerreiro, Fonseca & Paquete 2021, ACM Computing Surveys
    54). Objectives are scaled to their range on the frontier, the reference point lies a tenth behind it.
    Of a frontier with fewer than `k`, such as that of one objective, the trials right behind it follow, rank
    by rank: they might be ahead but for luck.
    """
    counting = [trial for trial in trials if trial.confirms is None and is_feasible(trial)]
    losses = np.array([losses_of(trial.values, objectives) for trial in counting]).reshape(
        -1, len(objectives)
    )
    known = np.flatnonzero(~np.isnan(losses).any(axis=1))
    if not known.size:
        return []
    counting, losses = [counting[place] for place in known], losses[known]
    first = list(objectives).index("accuracy") if "accuracy" in objectives else 0
    ranks = pareto_ranks(losses)
    front = np.flatnonzero(ranks == 1)
    behind = [place for place in np.lexsort((losses[:, first], ranks)) if ranks[place] > 1]
    order = [*(front[place] for place in _by_added_volume(losses[front], first)), *behind]
    return [counting[place].number for place in order[:k]]


def _by_added_volume(losses: NDArray[np.float64], first: int) -> Iterator[int]:
    """Yield the rows of a frontier, each adding most to those before it, the best of `first` first.

    Args:
        losses: float64 (n, objectives).
        first: a column; what is best there comes first, and decides between rows that add as much.
    """
    low, size = losses.min(axis=0), np.ptp(losses, axis=0)
    scaled = (losses - low) / np.where(size > 0, size, 1.0)
    reference = np.full(losses.shape[1], 1 + ROOM)
    left = sorted(range(len(losses)), key=lambda row: losses[row, first])
    taken = [left.pop(0)]
    yield taken[0]
    while left:
        volumes = [moocore.hypervolume(scaled[[*taken, row]], ref=reference) for row in left]
        taken.append(left.pop(int(np.argmax(volumes))))  # of equals argmax takes the first, so the best
        yield taken[-1]


def _fresh_seeds(trials: Sequence[TrialRecord], wanted: int) -> list[int]:
    used = {trial.settings.get("seed", 0) for trial in trials if trial.confirms is None}
    return list(islice((seed for seed in count(FIRST_SEED) if seed not in used), wanted))


def confirmed(trials: Sequence[TrialRecord]) -> list[ConfirmedRecord]:
    """Return what confirmations have shown, the best mean accuracy first; trials without one have no row.

    The interval is Student's t over seeds: what training this point again gives on the same validation part.
    The accuracy that the trial was picked for isn't counted, since the best of many is one that had luck.
    """
    again: dict[int, list[TrialRecord]] = {}
    for trial in trials:
        if trial.confirms is not None:
            again.setdefault(trial.confirms, []).append(trial)
    rows = [_row(trial, again[trial.number]) for trial in trials if trial.number in again]
    return sorted(rows, key=lambda row: -1.0 if row.mean is None else row.mean, reverse=True)


def _row(found: TrialRecord, again: Sequence[TrialRecord]) -> ConfirmedRecord:
    complete = [trial for trial in again if trial.state == "COMPLETE" and "accuracy" in trial.metrics]
    accuracies = [trial.metrics["accuracy"] for trial in complete]
    row = ConfirmedRecord(
        trial=found.number,
        model=found.model,
        image_size=found.image_size,
        seeds=[int(trial.settings["seed"]) for trial in complete],
        accuracies=accuracies,
        found=found.metrics["accuracy"],
        failed=len(again) - len(complete),
    )
    if not complete:
        return row.model_copy(update={"reason": f"none ran to its end: {again[-1].reason}"})
    mean = float(np.mean(accuracies))
    if len(complete) == 1:
        return row.model_copy(update={"mean": mean, "reason": "one seed has no spread"})
    spread = float(np.std(accuracies, ddof=1))
    half = _critical(len(complete) - 1) * spread / len(complete) ** 0.5
    ends = {"low": max(0.0, mean - half), "high": min(1.0, mean + half)}
    return row.model_copy(update={"mean": mean, "spread": spread, **ends})


def _critical(freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def winner(found: Sequence[ConfirmedRecord]) -> int | None:
    """Return the trial with the best confirmed mean; None where nothing is confirmed."""
    return found[0].trial if found and found[0].mean is not None else None


def confirmed_rows(found: Sequence[ConfirmedRecord]) -> list[tuple[str, ...]]:
    """Return a row of `COLUMNS` for each trial that was confirmed, in order; – for what can't be told."""
    return [
        (
            f"trial-{row.trial:03d}",
            f"{row.model} {row.image_size}px",
            f"{len(row.seeds)}" + (f" ({row.failed} failed)" if row.failed else ""),
            _share(row.mean),
            "–" if row.low is None or row.high is None else f"{row.low:.1%} to {row.high:.1%}",
            _share(row.spread),
            _share(row.found),
        )
        for row in found
    ]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
