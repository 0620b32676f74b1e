"""What a search asks of its trials again and again, kept so that none of them is read twice for it."""

from collections.abc import Collection, Iterable

from optuna.trial import FrozenTrial, TrialState

from hkbench.study.points import AGAIN, BESIDE, REFUSED, SAME_AS, THAWS, point_key


class Tally:
    """The points that were had, by the first trial of each, and how many trials have been trained.

    The cost of a note is that of one trial, however many there are.
    """

    def __init__(self, trials: Iterable[FrozenTrial]) -> None:
        self._first: dict[str, int] = {}
        self._ended: set[int] = set()
        self._replaced: set[int] = set()
        for trial in trials:
            self.note(trial)

    def note(self, trial: FrozenTrial) -> None:
        """Take in a trial that was asked, or one that has ended. Repeats and points that wait don't count."""
        attrs = trial.user_attrs
        if SAME_AS in attrs or trial.state == TrialState.WAITING:
            return
        self._first.setdefault(point_key(trial.params), trial.number)
        for replaced in (attrs[name] for name in (AGAIN, THAWS) if name in attrs):
            self._replaced.add(replaced)
            self._ended.discard(replaced)
        counts = trial.state.is_finished() and not {REFUSED, BESIDE} & attrs.keys()
        if counts and trial.number not in self._replaced:
            self._ended.add(trial.number)

    @property
    def trained(self) -> int:
        """How many trials have ended, without repeats, those refused before training, those that another
        has tried again or gone on from, and those beside the search.
        """
        return len(self._ended)

    @property
    def had(self) -> Collection[str]:
        """The keys of all points that were asked."""
        return self._first.keys()

    def first(self, key: str) -> int | None:
        """Return the first trial of a point; None if there was none."""
        return self._first.get(key)
