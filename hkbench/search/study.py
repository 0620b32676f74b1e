"""The Optuna study: what has been asked, what came of it, and nothing else that must be believed."""

import json
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from hkbench.errors import UsageError
from hkbench.search.samplers import build_sampler, experimental_parts
from hkbench.search.space import MOST_POINTS, Space

log = logging.getLogger(__name__)

ASKS_BEFORE_EXHAUSTED = 64
SEED_POINT = "seed_point"
SAME_AS = "same_as"
LAST_VALUES = "last_values"
REASON = "reason"
REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A point that is to be trained."""

    number: int
    params: dict[str, Any]
    seed_point: str | None


class Study:
    """A study in a journal file of the run directory, written by one driver.

    Asking gives each point once; telling a finished trial again changes nothing.
    """

    def __init__(self, study: optuna.Study, space: Space, unlisted: list[dict[str, Any]] | None) -> None:
        self._study = study
        self._space = space
        self._grid = unlisted

    @classmethod
    def open(cls, path: Path, space: Space, seed: int, sampler: str = "tpe") -> "Study":
        """Open the study at `path`, or create it with the space's seed points enqueued.

        Raises:
            UsageError: a sampler that there isn't, or a grid of a space whose points have no end.
        """
        grid = shuffled_grid(space, seed) if sampler == "grid" else None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        fresh = not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(path)
        lock = JournalFileOpenLock(str(path))
        study = optuna.create_study(
            study_name=space.name,
            storage=JournalStorage(JournalFileBackend(str(path), lock_obj=lock)),
            directions=list(space.objectives.values()),
            load_if_exists=not fresh,
        )
        # Another seed for each opening: the same one would propose the first points again.
        study.sampler = build_sampler(sampler, seed + len(study.get_trials(deepcopy=False)))
        found = cls(study, space, grid)
        if fresh:
            with experimental_parts():
                study.set_metric_names(list(space.objectives))
            for name, params in space.seed_points():
                found._enqueue(params, name)
        return found

    def insist(self, params: dict[str, Any], like: int, name: str) -> Asked:
        """Add a trial with just these parameters, all of which trial `like` has, repeated or not."""
        distributions = self._study.get_trials(deepcopy=False)[like].distributions
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions={each: distributions[each] for each in params},
                user_attrs={SEED_POINT: name},
            )
        )
        number = len(self._study.get_trials(deepcopy=False)) - 1
        return Asked(number=number, params=params, seed_point=name)

    def _enqueue(self, params: dict[str, Any], name: str) -> None:
        """Put a named point before all that the sampler would propose."""
        self._study.enqueue_trial(params, user_attrs={SEED_POINT: name}, skip_if_exists=True)

    def ask(self) -> Asked | None:
        """Return a point that no earlier trial has had; None when the space seems to hold no other.

        A repeated point is answered from the record: it is told at once what its first trial gave.
        """
        for _ in range(ASKS_BEFORE_EXHAUSTED if self._grid is None else MOST_POINTS):
            if self._grid is not None and not self._waiting():
                if not self._grid:
                    return None
                self._study.enqueue_trial(self._grid.pop())
            trial = self._study.ask()
            params = self._space.choose(trial)
            same = self._earlier(trial.number, params)
            if same is None:
                return Asked(number=trial.number, params=params, seed_point=trial.user_attrs.get(SEED_POINT))
            trial.set_user_attr(SAME_AS, same.number)
            if same.state == TrialState.COMPLETE:
                self._study.tell(trial.number, same.values)
            else:
                self._study.tell(trial.number, state=TrialState.PRUNED)
        return None

    def _waiting(self) -> bool:
        """Whether a point is enqueued."""
        return bool(self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def _earlier(self, number: int, params: dict[str, Any]) -> FrozenTrial | None:
        wanted = _point_key(params)
        for trial in self._trials():
            if trial.number != number and _point_key(trial.params) == wanted:
                return trial
        return None

    def running(self) -> list[Asked]:
        """Return the trials that were asked and not told: after a crash, those to go on with."""
        return [
            Asked(number=trial.number, params=trial.params, seed_point=trial.user_attrs.get(SEED_POINT))
            for trial in self._trials()
            if trial.state == TrialState.RUNNING
        ]

    def trained(self) -> int:
        """Return how many trials have ended, without repeats and those refused before training."""
        return sum(trial.state.is_finished() and REFUSED not in trial.user_attrs for trial in self._trials())

    def _trials(self) -> Iterator[FrozenTrial]:
        for trial in self._study.get_trials(deepcopy=False):
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
        self._study.tell(number, [values[name] for name in self._space.objectives])

    def tell_refused(self, number: int, values: dict[str, float], reason: str) -> None:
        """Record a trial whose architecture alone breaks a limit: pruned, and not counted as trained."""
        trial = self._open_trial(number)
        if trial is not None:
            trial.set_user_attr(REFUSED, True)
        self.tell_pruned(number, values, reason)

    def tell_pruned(self, number: int, values: dict[str, float], reason: str) -> None:
        """Record a trial that was stopped early, with its last values and why."""
        trial = self._open_trial(number)
        if trial is None:
            return
        trial.set_user_attr(LAST_VALUES, values)
        trial.set_user_attr(REASON, reason)
        self._study.tell(number, state=TrialState.PRUNED)

    def tell_failed(self, number: int, reason: str) -> None:
        """Record a trial that could not be trained, and why."""
        trial = self._open_trial(number)
        if trial is None:
            return
        trial.set_user_attr(REASON, reason)
        self._study.tell(number, state=TrialState.FAIL)

    def _open_trial(self, number: int) -> optuna.Trial | None:
        frozen = self._study.get_trials(deepcopy=False)[number]
        if frozen.state.is_finished():
            return None
        return optuna.Trial(self._study, frozen._trial_id)


def random_points(space: Space, count: int, seed: int) -> list[dict[str, Any]]:
    """Draw points of a space at random, each parameter by its own range and scale."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.choose(study.ask()) for _ in range(count)]


def shuffled_grid(space: Space, seed: int) -> list[dict[str, Any]]:
    """Return all points of a space in random order.

    Raises:
        UsageError: they have no end.
    """
    points = space.points()
    if points is None:
        raise UsageError(
            f"A grid needs a space that ends: {space.name} has a range without steps, or more than "
            f"{MOST_POINTS:,} points. Give its ranges a step, or take another sampler."
        )
    random.Random(seed).shuffle(points)
    return points


def _point_key(params: dict[str, Any]) -> str:
    """Return a text that two points share when they are equal to six significant digits."""
    return json.dumps(
        {
            name: float(f"{value:.6g}") if isinstance(value, float) else value
            for name, value in params.items()
        },
        sort_keys=True,
    )


def _cut_torn_line(path: Path) -> None:
    """Drop a last line without its newline: a killed driver's; the next append would hide behind it."""
    if not path.exists():
        return
    written = path.read_bytes()
    whole = written[: written.rfind(b"\n") + 1]
    if len(whole) != len(written):
        log.warning("%s had a torn last line, which was cut", path)
        path.write_bytes(whole)
    if not whole:
        raise UsageError(f"{path} is empty: it holds no study. Remove the run directory and search again.")
