"""In which range of temperature and α distillation beats the same training without a teacher (S13)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hkbench.analysis.gain_surface import surface
from hkbench.store.findings import GainCell, GainRecord
from hkbench.store.records import TrialRecord

LOSS = "kd"
OF_THE_TEACHER = ("loss", "alpha", "beta", "gamma", "temperature", "hard_weight", "soft_weight")
"""Settings that say what is learned from a teacher, and nothing else; the twin has others in these."""
SEED = "seed"
FEWEST_TRIALS = 8
CELLS = 10
WIDE = 10.0
"""A setting whose largest value is so many times its smallest is compared by logarithms."""
ON_THE_EDGE = 1e-9


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A trial with a teacher and those without one that it is held against: several where equally near."""

    trial: TrialRecord
    twins: tuple[TrialRecord, ...]
    exact: bool

    @property
    def gain(self) -> float:
        """Accuracy of the trial less the mean of its twins', in [−1, 1]."""
        return _accuracy(self.trial) - float(np.mean([_accuracy(twin) for twin in self.twins]))


def distillation_gain(trials: Sequence[TrialRecord], *, seed: int = 0) -> GainRecord:
    """Return what `kd` gains over no teacher by temperature and α, as far as the trials reach.

    Every trial is compared with its twin (`pairs` says which that is), so each architecture with itself; the
    gain is one surface over (log T, α) for all of them, a mean over the architectures that were tried. Trials
    with one twin share its luck: their gains' errors have the covariance σ²(δᵢⱼ + |Tᵢ ∩ Tⱼ| / |Tᵢ||Tⱼ|), Tᵢ
    being the twins of trial i, as if every training had the same noise. A single twin of all is one draw, and
    the bounds know it. Intervals hold cell by cell, not for all cells together.

    Only what ran to its end counts. Trials that were stopped early were so for being poor, so the gain where
    many were stopped is lower than it looks; `stopped` counts them, in all and cell by cell.
    """
    found = pairs(trials)
    taught = [trial for trial in trials if trial.loss == LOSS]
    stopped = [trial for trial in taught if trial.state == "PRUNED" and trial.epochs > 0]
    complete = sum(trial.state == "COMPLETE" for trial in taught)
    told = GainRecord(
        trials=len(found),
        exact=sum(pair.exact for pair in found),
        unpaired=complete - len(found),
        stopped=len(stopped),
        twins=len({twin.number for pair in found for twin in pair.twins}),
    )
    if len(found) < FEWEST_TRIALS:
        reason = f"{len(found)} trials with a teacher have a twin without one; it needs {FEWEST_TRIALS}"
        return told.model_copy(update={"reason": reason})
    square = _Square.around(found)
    cells = _cells(found, stopped, square, seed)
    won = [cell for cell in cells if cell.low > 0]
    if not won:
        reason = "the trials lie on a line" if not cells else "no cell's lower bound is above 0"
        return told.model_copy(update={"cells": cells, "reason": reason})
    return told.model_copy(
        update={
            "cells": cells,
            "temperature": _span([cell.temperature for cell in won]),
            "alpha": _span([cell.alpha for cell in won]),
        }
    )


def pairs(trials: Sequence[TrialRecord]) -> list[Pair]:
    """Return every complete trial of `kd` with its twin, in order; those without one are left out.

    The twin is the trial without a teacher whose other settings are all the same, whatever its seed. Where
    there is none, it is the nearest one of the same architecture, picture size and precision, by Gower's
    distance over the other settings that differ among the trials (Gower 1971, Biometrics 27): numbers by
    their difference as a share of their range, by logarithms where that spans a factor of ten, anything else
    by whether it is equal. Of several that are as near the mean counts.
    """
    complete = [trial for trial in trials if trial.state == "COMPLETE" and "accuracy" in trial.metrics]
    alone = [trial for trial in complete if trial.weight_soft == 0]
    distance = _Gower([_others(trial) for trial in complete])
    found = []
    for trial in complete:
        if trial.loss != LOSS or trial.weight_soft == 0 or trial.temperature is None:
            continue
        near = [(distance(_others(trial), _others(twin)), twin) for twin in alone if _alike(trial, twin)]
        if near:
            least = min(far for far, _ in near)
            twins = tuple(twin for far, twin in near if far <= least + ON_THE_EDGE)
            found.append(Pair(trial=trial, twins=twins, exact=least == 0))
    return found


def _alike(trial: TrialRecord, twin: TrialRecord) -> bool:
    """Whether two trials have one architecture, picture size and precision."""
    return (trial.model, trial.image_size, trial.settings.get("precision")) == (
        twin.model,
        twin.image_size,
        twin.settings.get("precision"),
    )


def _others(trial: TrialRecord) -> dict[str, Any]:
    """Return all settings but the teacher's and the seed."""
    return {
        name: value for name, value in trial.settings.items() if name not in OF_THE_TEACHER and name != SEED
    }


def _accuracy(trial: TrialRecord) -> float:
    return trial.metrics["accuracy"]


class _Gower:
    """The mean difference of two trials' settings, of those that differ among all trials; 0 if none does."""

    def __init__(self, settings: Sequence[Mapping[str, Any]]) -> None:
        values: dict[str, list[Any]] = {}
        for each in settings:
            for name, value in each.items():
                values.setdefault(name, []).append(value)
        self._ranges = {
            name: _range([value for value in found if _is_number(value)])
            for name, found in values.items()
            if len({repr(value) for value in found}) > 1
        }

    def __call__(self, a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
        if not self._ranges:
            return 0.0
        return sum(self._apart(name, a.get(name), b.get(name)) for name in self._ranges) / len(self._ranges)

    def _apart(self, name: str, a: Any, b: Any) -> float:
        if a == b:
            return 0.0
        span = self._ranges[name]
        if span is None or not (_is_number(a) and _is_number(b)):
            return 1.0
        low, high, log = span
        if log:
            return abs(math.log(a / b)) / math.log(high / low)
        return float(abs(a - b) / (high - low))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _range(numbers: Sequence[float]) -> tuple[float, float, bool] | None:
    """Return lowest, highest and whether logarithms count; None where numbers don't differ."""
    if not numbers or min(numbers) == max(numbers):
        return None
    low, high = min(numbers), max(numbers)
    return low, high, low > 0 and high / low >= WIDE


@dataclass(frozen=True, kw_only=True)
class _Square:
    """The temperatures and α that trials have had, as a square of cells over log T and α."""

    edges: tuple[NDArray[np.float64], NDArray[np.float64]]  # of log T and α, ascending; one cell: no spread

    @classmethod
    def around(cls, found: Sequence[Pair]) -> "_Square":
        places = np.array([_place(pair.trial) for pair in found])
        low, high = places.min(axis=0), places.max(axis=0)
        log_t, alpha = (
            np.linspace(a, b, CELLS + 1) if b > a else np.array([a, a])
            for a, b in zip(low, high, strict=True)
        )
        return cls(edges=(log_t, alpha))

    def scaled(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return places, float64 (n, 2), with the square taken to [0, 1]²."""
        low = np.array([edges[0] for edges in self.edges])
        size = np.array([edges[-1] - edges[0] or 1.0 for edges in self.edges])
        within: NDArray[np.float64] = (places - low) / size
        return within

    def cells(self) -> list[tuple[int, int]]:
        """Return the cells, by their places along log T and α."""
        log_t, alpha = self.edges
        return list(product(range(len(log_t) - 1), range(len(alpha) - 1)))

    def ends(self, axis: int, place: int) -> tuple[float, float]:
        """Return the two edges of the cells at a place along an axis."""
        return float(self.edges[axis][place]), float(self.edges[axis][place + 1])

    def centres(self) -> NDArray[np.float64]:
        """Return the middle of each cell, float64 (cells, 2)."""
        return np.array([[np.mean(self.ends(0, t)), np.mean(self.ends(1, a))] for t, a in self.cells()])

    def counts(self, places: NDArray[np.float64]) -> NDArray[np.int64]:
        """Count the places in each cell, int64 (cells,)."""
        counts = np.zeros(tuple(len(edges) - 1 for edges in self.edges), dtype=np.int64)
        for place in places:
            if all(e[0] <= value <= e[-1] for e, value in zip(self.edges, place, strict=True)):
                counts[tuple(_bin(e, value) for e, value in zip(self.edges, place, strict=True))] += 1
        return np.array([counts[cell] for cell in self.cells()])


def _bin(edges: NDArray[np.float64], value: float) -> int:
    return int(np.clip(np.searchsorted(edges, value, side="right") - 1, 0, len(edges) - 2))


def _place(trial: TrialRecord) -> tuple[float, float]:
    """Return log T and α, the weight of the ordinary loss, of a trial of `kd`."""
    assert trial.temperature is not None
    return math.log(trial.temperature), trial.weight_hard


def _cells(
    found: Sequence[Pair], stopped: Sequence[TrialRecord], square: _Square, seed: int
) -> list[GainCell]:
    """Return the gain in each cell whose middle lies within the trials' hull."""
    places = np.array([_place(pair.trial) for pair in found])
    points, centres = square.scaled(places), square.scaled(square.centres())
    inside = np.flatnonzero(list(_within(points, centres)))
    if not inside.size:
        return []
    gains = np.array([pair.gain for pair in found])
    fitted = surface(points, gains, _noise(found), centres[inside], seed=seed)
    counts = square.counts(places)
    left = square.counts(np.array([_place(trial) for trial in stopped if trial.temperature is not None]))
    named = square.cells()
    cells = []
    for row, place in enumerate(inside):
        t, alpha = named[place]
        low, high = square.ends(0, t)
        cells.append(
            GainCell(
                temperature=(math.exp(low), math.exp(high)),
                alpha=square.ends(1, alpha),
                estimate=float(fitted.estimate[row]),
                low=float(fitted.low[row]),
                high=float(fitted.high[row]),
                trials=int(counts[place]),
                stopped=int(left[place]),
            )
        )
    return cells


def _noise(found: Sequence[Pair]) -> NDArray[np.float64]:
    """Return the covariance of the gains' errors in units of a training's own: float64 (n, n)."""
    numbers = sorted({twin.number for pair in found for twin in pair.twins})
    shares = np.zeros((len(found), len(numbers)))  # a twin's share in the mean that a trial is held against
    for row, pair in enumerate(found):
        for twin in pair.twins:
            shares[row, numbers.index(twin.number)] = 1 / len(pair.twins)
    covariance: NDArray[np.float64] = np.eye(len(found)) + shares @ shares.T
    return covariance


def _within(points: NDArray[np.float64], asked: NDArray[np.float64]) -> Iterator[bool]:
    """Yield for each place whether it lies in the points' hull; none does where they lie on a slant line."""
    from scipy.spatial import Delaunay, QhullError

    spread = [axis for axis in (0, 1) if np.ptp(points[:, axis]) > 0]
    if len(spread) < 2:  # the square is a line or a point, and its ends are the outermost trials
        yield from (True for _ in asked)
        return
    try:
        hull = Delaunay(points)
    except QhullError:
        yield from (False for _ in asked)
        return
    yield from (bool(found >= 0) for found in hull.find_simplex(asked, tol=ON_THE_EDGE))


def _span(ranges: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in ranges), max(high for _, high in ranges)
