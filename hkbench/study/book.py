"""An Optuna study as its one driver reads and writes it: a trial by its number, without a look at all."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from hkbench.study.journal import grouped
from hkbench.study.opening import mend_journal
from hkbench.study.points import SAME_AS, Asked, asked_of
from hkbench.study.samplers import experimental_parts
from hkbench.study.tally import Tally


class Book:
    """The study, with a tally of its trials.

    Args:
        study: that nobody else writes.
        journal: the file that it is in; None where it is elsewhere.
    """

    def __init__(self, study: optuna.Study, journal: Path | None = None) -> None:
        self.study = study
        self.tally = Tally(self.all)
        self._journal = journal
        self._may_wait = True

    @property
    def all(self) -> list[FrozenTrial]:
        """All trials by number, those that repeat others or only wait too; to be read, not changed.

        Takes longer the more there are.
        """
        return self.study.get_trials(deepcopy=False)

    def real(self) -> Iterator[FrozenTrial]:
        """Yield the trials that don't repeat another and don't only wait."""
        for trial in self.all:
            if SAME_AS not in trial.user_attrs and trial.state != TrialState.WAITING:
                yield trial

    def trial(self, number: int) -> FrozenTrial:
        """Return one trial, to be read, not changed.

        Raises:
            KeyError: there is none of this number.
        """
        storage, study_id = self.study._storage, self.study._study_id
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study_id, number))

    def unfinished(self, number: int) -> optuna.Trial | None:
        """Return a trial to be written to; None if it has ended."""
        frozen = self.trial(number)
        return None if frozen.state.is_finished() else optuna.Trial(self.study, frozen._trial_id)

    def note(self, number: int) -> None:
        """Count a trial that was asked, or that has ended."""
        self.tally.note(self.trial(number))

    def enqueue(self, params: dict[str, Any]) -> None:
        """Let a point be the next to be asked for."""
        self._may_wait = True  # before the write, which may fail half-way
        self.study.enqueue_trial(params)

    def waiting(self) -> list[FrozenTrial]:
        """Return the trials of the points that are enqueued."""
        found = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)) if self._may_wait else []
        self._may_wait = bool(found)
        return found

    def add(self, params: dict[str, Any], like: int, attrs: dict[str, Any]) -> Asked:
        """Add a trial that is under way, with the distributions of trial `like`."""
        distributions = self.trial(like).distributions
        self.study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions={each: distributions[each] for each in params},
                user_attrs=attrs,
            )
        )
        added = self.all[-1]
        self.tally.note(added)
        return asked_of(added, params)

    def end(
        self,
        number: int,
        *,
        values: Sequence[float] | None = None,
        state: TrialState | None = None,
        attrs: Mapping[str, Any] | None = None,
        violations: Mapping[str, float] | None = None,
    ) -> None:
        """Tell Optuna of a trial's end, and count it; telling it again changes nothing.

        Args:
            number: of the trial.
            values: of the objectives, in their order; without a `state` it is complete.
            state: of a trial without values.
            attrs: what is kept beside it.
            violations: by how much it breaks limits.
        """
        trial = self.unfinished(number)
        if trial is None:
            return
        if violations:
            with experimental_parts():
                for name, violation in violations.items():
                    trial.set_constraint(name, violation)
        storage = self.study._storage
        with grouped(storage):
            for name, value in (attrs or {}).items():  # `Trial` would show it in memory even if no write came
                storage.set_trial_user_attr(trial._trial_id, name, value)
            self.study.tell(number, values, state)
        self.note(number)

    def mend(self) -> None:
        """Make journal and tally whole after a write that failed half-way."""
        if self._journal is not None:
            mend_journal(self._journal)
        self._may_wait = True
        with suppress(OSError, StorageInternalError):  # what was written before the fault counts too
            self.tally = Tally(self.all)
