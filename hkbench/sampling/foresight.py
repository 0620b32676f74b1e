"""What is known of all trials so far, and what their model expects of any point at its last epoch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from hkbench.sampling.curves import FEWEST, CurveModel, Observations
from hkbench.sampling.features import Features
from hkbench.spaces.space import Space

LOOKED_AT = frozenset((1, 3, 9, 27, 81))
"""The epochs that the model looks at, beside the last of a curve: those between add time and little else."""
REFIT_AFTER = 4
"""Trials with a curve, until lengths and scales are chosen anew; later a fifth more of them."""
MOST_CURVES = 192
"""So many curves at most are looked at, the better half of them by their last loss."""
FITTED_TO = 64
"""So many of them give lengths and scales, which need few."""
BOUNDS_LAST = 3
"""The bounds of all live trials in doubt are found at once, and anew after reports of 1/3 of the live ones:
with fewer than 6 trials side by side after every report.
"""

Ending = Literal["complete", "stopped", "gone"]


@dataclass(kw_only=True)
class Past:
    """A trial so far; `curve` holds the trained objective after each epoch, as a loss, `row` its features."""

    params: dict[str, Any]
    row: NDArray[np.float64]
    state: Literal["live"] | Ending = "live"
    curve: list[float] = field(default_factory=list)


class Foresight:
    """Told of every trial, and asked what any point would reach.

    Args:
        space: whose points.
        seed: decides which curves are looked at, where they are many.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self.trials: dict[int, Past] = {}
        self.last_epoch = space.schedule.max_epochs
        self._rng = np.random.default_rng(seed)
        self._features = Features(space)
        self._model = CurveModel(self._features.groups, self.last_epoch)
        self._confidence = space.schedule.confidence
        self._fitted = 0
        self._known: dict[int, Past] = {}
        self._live: set[int] = set()
        self._bounds: dict[int, float] = {}
        self._doubted: set[int] = set()
        self._reports = 0

    def started(self, number: int, params: Mapping[str, Any], thaws: int | None = None) -> None:
        """Take note of a trial that begins, or goes on; one that thaws another takes its place.

        A trial of a wider space that this one was narrowed from is left out where it can't be compared.
        """
        if not self._features.knows(params):
            return
        if number not in self.trials:
            self.trials[number] = Past(params=dict(params), row=self._features.rows([params])[0])
        past = self.trials[number]
        past.state = "live"
        self._live.add(number)
        if thaws is not None and thaws in self.trials:
            past.curve = self.trials.pop(thaws).curve
            self._known.pop(thaws, None)
        self._note_known(number)

    def trained(self, number: int, epoch: int, loss: float) -> None:
        """Take note of an epoch of a trial that has started; hearing of one again changes nothing."""
        if number not in self.trials:
            return
        curve = self.trials[number].curve
        if epoch == len(curve) + 1 and math.isfinite(loss):
            curve.append(loss)
            self._reports += 1
            self._note_known(number)

    def ended(self, number: int, state: Ending) -> None:
        """Take note of a trial's end; `gone` is one that can neither count nor go on."""
        if number in self.trials:
            self.trials[number].state = state
            self._live.discard(number)
            self._doubted.discard(number)
            self._note_known(number)

    def _note_known(self, number: int) -> None:
        past = self.trials[number]
        if past.curve and past.state != "gone":
            self._known[number] = past
        else:
            self._known.pop(number, None)

    @property
    def known(self) -> list[Past]:
        """The trials that have a curve and may count, in the order of their numbers."""
        return [self._known[number] for number in sorted(self._known)]

    @property
    def live(self) -> list[Past]:
        """The trials that are under way, in the order of their numbers."""
        return [self.trials[number] for number in sorted(self._live)]

    @property
    def blind(self) -> bool:
        """Whether too little is known to expect anything."""
        return len(self._known) < FEWEST

    def least_loss(self, number: int) -> float:
        """Return the least loss that a live trial may end with; −inf while nothing is known of it.

        The bound is as old as the last reports of others (`BOUNDS_LAST`), so that a report costs the same
        however many trials are under way. It is found for those that were asked for before.
        """
        if number in self._live:
            self._doubted.add(number)
        if self._reports > 0 and self._reports >= len(self._live) // BOUNDS_LAST:
            self._reports = 0
            doubted = sorted(self._doubted)
            found = self.least_losses([self.trials[each] for each in doubted])
            self._bounds = dict(zip(doubted, map(float, found), strict=True))
        return self._bounds.get(number, -math.inf)

    def least_losses(self, trials: Sequence[Past]) -> NDArray[np.float64]:
        """Return the least loss that each trial may end with, float (trials,); −inf while nothing is known.

        The bound holds as often as the schedule's `confidence` says.
        """
        if self.blind or not trials:
            return np.full(len(trials), -np.inf)
        mean, deviation = self.expected((), trials)
        return mean - float(ndtri(self._confidence)) * deviation

    def expected(
        self, points: Sequence[Mapping[str, Any]], trials: Sequence[Past] = ()
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and standard deviation of the loss that points, and then trials, would end with.

        Returns:
            float (points and trials,) each.
        """
        rows = np.concatenate([self._features.rows(points), *(past.row[None] for past in trials)])
        known = self.known
        if len(known) >= max(self._fitted + REFIT_AFTER, round(self._fitted * 1.2)):
            self._model.fit(self._observations(known, FITTED_TO))
            self._fitted = len(known)
        return self._model.predict(self._observations(known, MOST_CURVES), rows)

    def _observations(self, known: list[Past], most: int) -> Observations:
        if len(known) > most:
            order = np.argsort([past.curve[-1] for past in known], kind="stable")
            by_loss = [known[each] for each in order]
            others = self._rng.choice(np.arange(most // 2, len(known)), most - most // 2, replace=False)
            known = [*by_loss[: most // 2], *(by_loss[each] for each in sorted(others))]
        picked = [
            (trial, epoch, loss)
            for trial, past in enumerate(known)
            for epoch, loss in enumerate(past.curve, start=1)
            if epoch in LOOKED_AT or epoch == len(past.curve)
        ]
        trials = np.array([trial for trial, _, _ in picked])
        return Observations(
            points=np.array([past.row for past in known]),
            epochs=np.array([epoch for _, epoch, _ in picked], dtype=np.float64),
            values=np.array([loss for _, _, loss in picked]),
            trials=trials,
        )
