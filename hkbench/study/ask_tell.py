"""Asking a study what to train next, and telling it what came of it: all that it knows is in its storage."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from hkbench.spaces.space import MOST_POINTS, Space
from hkbench.study.additions import Additions
from hkbench.study.book import Book
from hkbench.study.narrowing import WithinSampler, widened
from hkbench.study.opening import stored_study, study_in_memory
from hkbench.study.points import (
    AGAIN,
    BESIDE,
    CONFIRMS,
    ENDED,
    FAILURES,
    REFUSED,
    SAME_AS,
    THAWS,
    Asked,
    Ended,
    Proposal,
    Propose,
    asked_of,
    attrs_of,
    ended_as,
    ending,
    point_key,
    shuffled,
    shuffled_grid,
)
from hkbench.study.storage import JOURNAL, RunStorage, without_password

ASKS_BEFORE_EXHAUSTED = 64
REPEATS_BEFORE_LISTED = 8
"""After so many repeats in a row, the next point of a space that can be listed is one of those left."""


class AskTell:
    """A study in a journal file of the run directory, written by one driver.

    Asking gives each point once; telling a finished trial again changes nothing.
    """

    def __init__(self, book: Book, space: Space, unlisted: list[dict[str, Any]] | None = None) -> None:
        """`unlisted` are the points of a grid; they are asked for instead of the sampler's."""
        self._book = book
        self._space = space
        self._grid = unlisted
        self.additions = Additions(book)
        self.place: str | None = None
        """Where it is kept, in words, if not in the run directory."""

    @classmethod
    def open(cls, path: Path, space: Space, seed: int, sampler: str = "tpe") -> Self:
        """Open the study in a journal file, or create it there; as `at`."""
        storage = RunStorage(study=f"{JOURNAL}{path}", name=space.name)
        return cls.at(storage, path.parent, space, seed, sampler)

    @classmethod
    def at(cls, storage: RunStorage, run: Path, space: Space, seed: int, sampler: str = "tpe") -> Self:
        """Open the study of a run directory, or create it with the space's seed points enqueued.

        Raises:
            UsageError: a sampler that there isn't, or a grid of a space whose points have no end.
            StorageError: its storage is out of reach.
        """
        grid = shuffled_grid(space, seed) if sampler == "grid" else None
        book = Book(stored_study(storage, run, space, seed, sampler), storage.journal(run))
        found = cls(book, space, grid)
        found.place = without_password(storage.study) if storage.study else None
        return found

    @classmethod
    def in_memory(cls, space: Space, seed: int, sampler: str = "tpe") -> Self:
        """Open a study that nobody else will see, such as one of a simulated search."""
        grid = shuffled_grid(space, seed) if sampler == "grid" else None
        return cls(Book(study_in_memory(space, seed, sampler)), space, grid)

    def ask(self, propose: Propose | None = None) -> Asked | None:
        """Return a point that no earlier trial has had; None when the space seems to hold no other.

        A repeated point is answered from the record: it is told at once what its first trial gave. What is
        enqueued comes first, then what `propose` says, else the grid or Optuna's sampler.
        """
        for repeats in range(ASKS_BEFORE_EXHAUSTED if self._grid is None else MOST_POINTS):
            if not self._book.waiting():
                proposal = self._proposal(propose, repeats)
                if proposal is not None and proposal.thaws is not None:
                    return self._book.add(proposal.params, proposal.thaws, {THAWS: proposal.thaws})
                if proposal is not None:
                    self._book.enqueue(proposal.params)
                elif propose is not None or self._grid is not None:
                    return None
            trial = self._book.study.ask()
            params = self._space.choose(trial)
            same = self._earlier(trial.number, params)
            if same is None:
                self._book.note(trial.number)
                return asked_of(trial, params)
            self._answer(trial, same)
        return None

    def _proposal(self, propose: Propose | None, repeats: int) -> Proposal | None:
        """Return the next point where that isn't left to Optuna's sampler."""
        if propose is not None:
            return propose(self._book.tally.had)
        if self._grid is None and repeats == REPEATS_BEFORE_LISTED:
            points = self._space.points()
            self._grid = None if points is None else shuffled(points, seed=len(self._book.all))
        return Proposal(params=self._grid.pop()) if self._grid else None

    def _earlier(self, number: int, params: dict[str, Any]) -> FrozenTrial | None:
        first = self._book.tally.first(point_key(params))
        return None if first in (None, number) else self._book.trial(first)

    def running(self) -> list[Asked]:
        """Return the trials that were asked and not told: after a crash, those to go on with.

        A point that a kill has cut off while it was asked for is completed, and answered from the record if
        it is a repeat.
        """
        found = []
        for trial in [each for each in self._book.real() if each.state == TrialState.RUNNING]:
            if CONFIRMS in trial.user_attrs:
                continue
            params = self._completed(trial)
            meant = {BESIDE, AGAIN, THAWS} & trial.user_attrs.keys()
            same = None if meant else self._earlier(trial.number, params)
            if same is not None and same.number < trial.number:
                self._answer(optuna.Trial(self._book.study, trial._trial_id), same)
            else:
                found.append(asked_of(trial, params))
        return found

    def trained(self) -> int:
        """Return how many trials have ended, without repeats, those refused before training, those that
        another has tried again or gone on from, and those beside the search.
        """
        return self._book.tally.trained

    def tell_complete(self, number: int, values: dict[str, float], violations: dict[str, float]) -> None:
        """Record a trial that ran to its end; a violation above 0 marks it infeasible."""
        wanted = [values[name] for name in self._space.objectives]
        self._book.end(number, values=wanted, violations=violations)

    def tell_refused(self, number: int, values: dict[str, float], reason: str) -> None:
        """Record a trial whose architecture alone breaks a limit: pruned, and not counted as trained."""
        attrs = {REFUSED: True, ENDED: ending("PRUNED", reason, values)}
        self._book.end(number, state=TrialState.PRUNED, attrs=attrs)

    def tell_pruned(
        self,
        number: int,
        values: dict[str, float],
        reason: str,
        violations: Mapping[str, float] | None = None,
    ) -> None:
        """Record a trial that was stopped early, with its last values and why.

        `violations` are those of limits that no value would have kept, such as a device's memory.
        """
        attrs = {ENDED: ending("PRUNED", reason, values)}
        self._book.end(number, state=TrialState.PRUNED, attrs=attrs, violations=violations)

    def tell_failed(self, number: int, reason: str) -> None:
        """Record a trial that could not be trained, and why."""
        self._book.end(number, state=TrialState.FAIL, attrs={ENDED: ending("FAIL", reason)})

    def _completed(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return a trial's point, the parameters that it lacks drawn now."""
        known = self._space.parameters
        lacks = any(known[name].active(trial.params) for name in known.keys() - trial.params.keys())
        if not lacks or BESIDE in trial.user_attrs:
            return dict(trial.params)
        params = {**trial.params, **self._space.choose(optuna.Trial(self._book.study, trial._trial_id))}
        self._book.note(trial.number)
        return params

    def _answer(self, trial: optuna.Trial, same: FrozenTrial) -> None:
        """Tell a repeated point what its first trial gave."""
        trial.set_user_attr(SAME_AS, same.number)
        if same.state == TrialState.COMPLETE:
            self._book.study.tell(trial.number, same.values)
        else:
            self._book.study.tell(trial.number, state=TrialState.PRUNED)

    def note_failure(self, number: int, cause: str, reason: str) -> None:
        """Keep why a trial is tried again, so that a later run counts it too."""
        trial = self._book.unfinished(number)
        if trial is not None:
            trial.set_user_attr(FAILURES, [*self.failures(number), (cause, reason)])

    def failures(self, number: int) -> list[tuple[str, str]]:
        """Return (cause, reason) of each time that a trial has failed and was tried again."""
        attrs = self._book.trial(number).user_attrs
        return [(cause, reason) for cause, reason in attrs.get(FAILURES, ())]

    def narrow_to(self, space: Space) -> None:
        """Go on within a space that is the study's own, or a narrower one."""
        choices: dict[str, list[Any]] = {}
        for trial in self._book.all:
            for name, known in trial.distributions.items():
                if isinstance(known, CategoricalDistribution):
                    choices[name] = list(known.choices)
        enqueued = (trial.system_attrs.get("fixed_params", {}) for trial in self._book.waiting())
        for name, value in (pair for point in enqueued for pair in point.items()):
            if value not in choices.setdefault(name, []):
                choices[name].append(value)
        self._space = widened(space, choices)
        if self._space != space:
            seed = len(self._book.all)
            self._book.study.sampler = WithinSampler(self._book.study.sampler, space, seed)

    def params_of(self, number: int) -> dict[str, Any] | None:
        """Return the point of a trial; None if the study has no such trial, or one that only waits."""
        try:
            trial = self._book.trial(number)
        except KeyError:
            return None
        return dict(trial.params) if trial.state != TrialState.WAITING else None

    def unrecorded(self, recorded: Collection[int]) -> list[Ended]:
        """Return the trials that the study knows to have ended, beside those recorded."""
        return [
            ended_as(trial)
            for trial in self._book.real()
            if trial.state.is_finished() and trial.number not in recorded
        ]

    def adopt(self, asked: Asked) -> None:
        """Add a trial that is on record and that the study has lost, with those before it as repeats."""
        number = asked.number
        if number < len(self._book.all):  # it waits: the first of those that do
            self._space.choose(self._book.study.ask())
        for lost in range(len(self._book.all), number + 1):
            own = lost == number
            fixed = optuna.trial.FixedTrial(asked.params)
            self._space.choose(fixed)
            self._book.study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.RUNNING if own else TrialState.FAIL,
                    params=fixed.params if own else {},
                    distributions=fixed.distributions if own else {},
                    user_attrs=attrs_of(asked) if own else {SAME_AS: number},
                )
            )
        self._book.note(number)

    def mend(self) -> None:
        """Make the study whole after a write that failed half-way."""
        self._book.mend()
