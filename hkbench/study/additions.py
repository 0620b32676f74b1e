"""Trials that a search adds to its study without a sampler: twins, second tries and confirmations."""

from typing import Any, Literal

from optuna.trial import TrialState

from hkbench.study.book import Book
from hkbench.study.points import (
    AGAIN,
    BESIDE,
    CONFIRMS,
    ENDED,
    SEED_POINT,
    Asked,
    asked_of,
    attrs_of,
    ending,
)


class Additions:
    """Adds them, and knows them again."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def insist(self, params: dict[str, Any], like: int, name: str) -> Asked:
        """Add a trial beside the search with these parameters, which trial `like` has, repeated or not."""
        return self._book.add(params, like, {SEED_POINT: name, BESIDE: True})

    def is_beside(self, number: int) -> bool:
        """Whether a trial was added for a comparison."""
        return BESIDE in self._book.trial(number).user_attrs

    def beside(self) -> set[int]:
        """Return the trials that were added for comparisons."""
        return {trial.number for trial in self._book.real() if BESIDE in trial.user_attrs}

    def again(self, number: int) -> Asked | None:
        """Add a trial of the point of one that has failed, counted in its place; None if there is one."""
        if any(trial.user_attrs.get(AGAIN) == number for trial in self._book.all):
            return None
        failed = self._book.trial(number)
        name = failed.user_attrs.get(SEED_POINT)
        return self._book.add(failed.params, number, {SEED_POINT: name, AGAIN: number})

    def confirm(self, params: dict[str, Any], confirms: int, seed: int, name: str) -> Asked:
        """Add a trial that trains the point of another again, from a seed of its own."""
        asked = Asked(number=-1, params=params, seed_point=name, confirms=confirms, seed=seed)
        return self._book.add(params, confirms, attrs_of(asked))

    def confirming(self) -> list[Asked]:
        """Return the confirmations that were asked and not told."""
        return [
            asked_of(trial, trial.params)
            for trial in self._book.real()
            if trial.state == TrialState.RUNNING and CONFIRMS in trial.user_attrs
        ]

    def tell_confirmed(
        self, number: int, state: Literal["COMPLETE", "PRUNED", "FAIL"], values: dict[str, float], reason: str
    ) -> None:
        """Record a confirmation's end without telling the sampler: all of them pass over failed trials."""
        self._book.end(number, state=TrialState.FAIL, attrs={ENDED: ending(state, reason, values)})
