"""Asking a study what to train next, and telling it what came of it: all that it knows is in its storage."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from hkbench.spaces.space import MOST_POINTS, Space
from hkbench.study.narrowing import WithinSampler, widened
from hkbench.study.opening import mend_journal, stored_study, study_in_memory
from hkbench.study.points import (
    AGAIN,
    BESIDE,
    CONFIRMS,
    ENDED,
    FAILURES,
    LAST_VALUES,
    REASON,
    REFUSED,
    SAME_AS,
    SEED_POINT,
    STATES,
    THAWS,
    Asked,
    Ended,
    Proposal,
    Propose,
    asked_of,
    attrs_of,
    point_key,
    shuffled,
    shuffled_grid,
)
from hkbench.study.samplers import experimental_parts
from hkbench.study.storage import JOURNAL, RunStorage, without_password
from hkbench.study.tally import Tally

ASKS_BEFORE_EXHAUSTED = 64
REPEATS_BEFORE_LISTED = 8
"""After so many repeats in a row, the next point of a space that can be listed is one of those left."""


class AskTell:
    """A study in a journal file of the run directory, written by one driver.

    Asking gives each point once; telling a finished trial again changes nothing.
    """

    def __init__(
        self, study: optuna.Study, space: Space, unlisted: list[dict[str, Any]] | None = None
    ) -> None:
        """`unlisted` are the points of a grid; they are asked for instead of the sampler's."""
        self._study = study
        self._space = space
        self._grid = unlisted
        self._tally = Tally(study.get_trials(deepcopy=False))
        self._journal: Path | None = None
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
        found = cls(stored_study(storage, run, space, seed, sampler), space, grid)
        found._journal = storage.journal(run)
        found.place = without_password(storage.study) if storage.study else None
        return found

    @classmethod
    def in_memory(cls, space: Space, seed: int, sampler: str = "tpe") -> Self:
        """Open a study that nobody else will see, such as one of a simulated search."""
        grid = shuffled_grid(space, seed) if sampler == "grid" else None
        return cls(study_in_memory(space, seed, sampler), space, grid)

    def insist(self, params: dict[str, Any], like: int, name: str) -> Asked:
        """Add a trial beside the search with these parameters, which trial `like` has, repeated or not."""
        return self._add(params, like, {SEED_POINT: name, BESIDE: True})

    def _add(self, params: dict[str, Any], like: int, attrs: dict[str, Any]) -> Asked:
        distributions = self._all[like].distributions
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions={each: distributions[each] for each in params},
                user_attrs=attrs,
            )
        )
        added = self._all[-1]
        self._tally.note(added)
        return asked_of(added, params)

    def ask(self, propose: Propose | None = None) -> Asked | None:
        """Return a point that no earlier trial has had; None when the space seems to hold no other.

        A repeated point is answered from the record: it is told at once what its first trial gave. What is
        enqueued comes first, then what `propose` says, else the grid or Optuna's sampler.
        """
        for repeats in range(ASKS_BEFORE_EXHAUSTED if self._grid is None else MOST_POINTS):
            if not self._waiting():
                proposal = self._proposal(propose, repeats)
                if proposal is not None and proposal.thaws is not None:
                    return self._add(proposal.params, proposal.thaws, {THAWS: proposal.thaws})
                if proposal is not None:
                    self._study.enqueue_trial(proposal.params)
                elif propose is not None or self._grid is not None:
                    return None
            trial = self._study.ask()
            params = self._space.choose(trial)
            same = self._earlier(trial.number, params)
            if same is None:
                self._note(trial.number)
                return asked_of(trial, params)
            self._answer(trial, same)
        return None

    def _proposal(self, propose: Propose | None, repeats: int) -> Proposal | None:
        """Return the next point where that isn't left to Optuna's sampler."""
        if propose is not None:
            return propose(self._tally.had)
        if self._grid is None and repeats == REPEATS_BEFORE_LISTED:
            points = self._space.points()
            self._grid = None if points is None else shuffled(points, seed=len(self._all))
        return Proposal(params=self._grid.pop()) if self._grid else None

    def _waiting(self) -> bool:
        """Whether a point is enqueued."""
        return bool(self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def _earlier(self, number: int, params: dict[str, Any]) -> FrozenTrial | None:
        first = self._tally.first(point_key(params))
        return None if first in (None, number) else self._all[first]

    def _note(self, number: int) -> None:
        self._tally.note(self._all[number])

    def running(self) -> list[Asked]:
        """Return the trials that were asked and not told: after a crash, those to go on with.

        A point that a kill has cut off while it was asked for is completed, and answered from the record if
        it is a repeat.
        """
        found = []
        for trial in [each for each in self._trials() if each.state == TrialState.RUNNING]:
            if CONFIRMS in trial.user_attrs:
                continue
            params = self._completed(trial)
            meant = {BESIDE, AGAIN, THAWS} & trial.user_attrs.keys()
            same = None if meant else self._earlier(trial.number, params)
            if same is not None and same.number < trial.number:
                self._answer(optuna.Trial(self._study, trial._trial_id), same)
            else:
                found.append(asked_of(trial, params))
        return found

    def trained(self) -> int:
        """Return how many trials have ended, without repeats, those refused before training, those that
        another has tried again or gone on from, and those beside the search.
        """
        return self._tally.trained

    @property
    def _all(self) -> list[FrozenTrial]:
        """All trials by number, those that repeat others or only wait too; to be read, not changed."""
        return self._study.get_trials(deepcopy=False)

    def _trials(self) -> Iterator[FrozenTrial]:
        for trial in self._all:
            if SAME_AS not in trial.user_attrs and trial.state != TrialState.WAITING:
                yield trial

    def tell_complete(self, number: int, values: dict[str, float], violations: dict[str, float]) -> None:
        """Record a trial that ran to its end; a violation above 0 marks it infeasible."""
        trial = self._open_trial(number)
        if trial is None:
            return
        with experimental_parts():
            for name, violation in violations.items():
                trial.set_constraint(name, violation)
        self._tell(number, [values[name] for name in self._space.objectives])

    def tell_refused(self, number: int, values: dict[str, float], reason: str) -> None:
        """Record a trial whose architecture alone breaks a limit: pruned, and not counted as trained."""
        trial = self._open_trial(number)
        if trial is not None:
            trial.set_user_attr(REFUSED, True)
        self.tell_pruned(number, values, reason)

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
        trial = self._open_trial(number)
        if trial is None:
            return
        with experimental_parts():
            for name, violation in (violations or {}).items():
                trial.set_constraint(name, violation)
        trial.set_user_attr(LAST_VALUES, values)
        trial.set_user_attr(REASON, reason)
        self._tell(number, state=TrialState.PRUNED)

    def tell_failed(self, number: int, reason: str) -> None:
        """Record a trial that could not be trained, and why."""
        trial = self._open_trial(number)
        if trial is None:
            return
        trial.set_user_attr(REASON, reason)
        self._tell(number, state=TrialState.FAIL)

    def _tell(self, number: int, values: list[float] | None = None, state: TrialState | None = None) -> None:
        self._study.tell(number, values, state)
        self._note(number)

    def _open_trial(self, number: int) -> optuna.Trial | None:
        frozen = self._all[number]
        if frozen.state.is_finished():
            return None
        return optuna.Trial(self._study, frozen._trial_id)

    def _completed(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return a trial's point, the parameters that it lacks drawn now."""
        known = self._space.parameters
        lacks = any(known[name].active(trial.params) for name in known.keys() - trial.params.keys())
        if not lacks or BESIDE in trial.user_attrs:
            return dict(trial.params)
        params = {**trial.params, **self._space.choose(optuna.Trial(self._study, trial._trial_id))}
        self._note(trial.number)
        return params

    def _answer(self, trial: optuna.Trial, same: FrozenTrial) -> None:
        """Tell a repeated point what its first trial gave."""
        trial.set_user_attr(SAME_AS, same.number)
        if same.state == TrialState.COMPLETE:
            self._study.tell(trial.number, same.values)
        else:
            self._study.tell(trial.number, state=TrialState.PRUNED)

    def is_beside(self, number: int) -> bool:
        """Whether a trial was added for a comparison."""
        return BESIDE in self._all[number].user_attrs

    def beside(self) -> set[int]:
        """Return the trials that were added for comparisons."""
        return {trial.number for trial in self._trials() if BESIDE in trial.user_attrs}

    def note_failure(self, number: int, cause: str, reason: str) -> None:
        """Keep why a trial is tried again, so that a later run counts it too."""
        trial = self._open_trial(number)
        if trial is not None:
            trial.set_user_attr(FAILURES, [*self.failures(number), (cause, reason)])

    def failures(self, number: int) -> list[tuple[str, str]]:
        """Return (cause, reason) of each time that a trial has failed and was tried again."""
        attrs = self._all[number].user_attrs
        return [(cause, reason) for cause, reason in attrs.get(FAILURES, ())]

    def again(self, number: int) -> Asked | None:
        """Add a trial of the point of one that has failed, counted in its place; None if there is one."""
        trials = self._all
        if any(trial.user_attrs.get(AGAIN) == number for trial in trials):
            return None
        name = trials[number].user_attrs.get(SEED_POINT)
        return self._add(trials[number].params, number, {SEED_POINT: name, AGAIN: number})

    def narrow_to(self, space: Space) -> None:
        """Go on within a space that is the study's own, or a narrower one."""
        choices: dict[str, list[Any]] = {}
        for trial in self._all:
            for name, known in trial.distributions.items():
                if isinstance(known, CategoricalDistribution):
                    choices[name] = list(known.choices)
        for name, value in self._waiting_values():
            if value not in choices.setdefault(name, []):
                choices[name].append(value)
        self._space = widened(space, choices)
        if self._space != space:
            seed = len(self._all)
            self._study.sampler = WithinSampler(self._study.sampler, space, seed)

    def _waiting_values(self) -> Iterator[tuple[str, Any]]:
        """Yield the parameters of the points that are enqueued."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            yield from trial.system_attrs.get("fixed_params", {}).items()

    def params_of(self, number: int) -> dict[str, Any] | None:
        """Return the point of a trial; None if the study has no such trial, or one that only waits."""
        trials = self._all
        known = number < len(trials) and trials[number].state != TrialState.WAITING
        return dict(trials[number].params) if known else None

    def unrecorded(self, recorded: Collection[int]) -> list[Ended]:
        """Return the trials that the study knows to have ended, beside those recorded."""
        return [
            Ended(
                asked=asked_of(trial, trial.params),
                state=trial.user_attrs.get(ENDED, STATES[trial.state]),
                reason=trial.user_attrs.get(REASON),
                refused=REFUSED in trial.user_attrs,
            )
            for trial in self._trials()
            if trial.state.is_finished() and trial.number not in recorded
        ]

    def adopt(self, asked: Asked) -> None:
        """Add a trial that is on record and that the study has lost, with those before it as repeats."""
        number = asked.number
        if number < len(self._all):  # it waits: the first of those that do
            self._space.choose(self._study.ask())
        for lost in range(len(self._all), number + 1):
            own = lost == number
            fixed = optuna.trial.FixedTrial(asked.params)
            self._space.choose(fixed)
            self._study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.RUNNING if own else TrialState.FAIL,
                    params=fixed.params if own else {},
                    distributions=fixed.distributions if own else {},
                    user_attrs=attrs_of(asked) if own else {SAME_AS: number},
                )
            )
        self._note(number)

    def confirm(self, params: dict[str, Any], confirms: int, seed: int, name: str) -> Asked:
        """Add a trial that trains the point of another again, from a seed of its own."""
        asked = Asked(number=-1, params=params, seed_point=name, confirms=confirms, seed=seed)
        return self._add(params, confirms, attrs_of(asked))

    def confirming(self) -> list[Asked]:
        """Return the confirmations that were asked and not told."""
        return [
            asked_of(trial, trial.params)
            for trial in self._trials()
            if trial.state == TrialState.RUNNING and CONFIRMS in trial.user_attrs
        ]

    def tell_confirmed(
        self, number: int, state: Literal["COMPLETE", "PRUNED", "FAIL"], values: dict[str, float], reason: str
    ) -> None:
        """Record a confirmation's end without telling the sampler: all of them pass over failed trials."""
        trial = self._open_trial(number)
        if trial is None:
            return
        for name, value in ((ENDED, state), (LAST_VALUES, values), (REASON, reason)):
            trial.set_user_attr(name, value)
        self._tell(number, state=TrialState.FAIL)

    def mend(self) -> None:
        """Make journal and tally whole after a write that failed half-way."""
        if self._journal is not None:
            mend_journal(self._journal)
        with suppress(OSError, StorageInternalError):  # what was written before the fault counts too
            self._tally = Tally(self._all)
