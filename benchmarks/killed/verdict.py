"""What became of a search that was killed: lost trials, doubles and epochs trained again, from its notes."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.killed.moments import Moment, Phase, Victim
from benchmarks.killed.notes import Note


@dataclass(kw_only=True)
class Kill:
    """A kill as it came about.

    Attributes:
        moment: when whom it was to hit.
        phase: what the search was doing.
        victim: whom it hit: the driver, where there was no worker or raylet to hit.
        at: time of day in seconds, when all that the kill ended was dead.
        after_s: seconds since the search was started or killed before.
        finished: the trials that were finished by then.
        problem: why the search didn't go on from here; None where it did.
    """

    moment: Moment
    phase: Phase
    victim: Victim
    at: float
    after_s: float
    finished: frozenset[str]
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """What a search says in the end: the epochs of each trial, and what it says twice or not consistently."""

    epochs: dict[str, int]
    twice: list[str] = field(default_factory=list)
    flaws: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the notes show, held against the accounts.

    Attributes:
        lost: trials that were finished before a kill, and are missing or were trained on after it.
        doubles: points that were trained as two trials, and records that are there twice.
        redone: by (kill, trial): epochs that had been trained to their end before it and were trained again.
        cut: epochs that were begun and never came to their end.
        abandoned: trials that were begun and that the accounts don't know, with the epochs they had.
        trained: epochs that were trained to their end, those that are redone included.
    """

    lost: list[str]
    doubles: list[str]
    redone: dict[tuple[int, str], int]
    cut: int
    abandoned: dict[str, int]
    trained: int

    @property
    def most_redone(self) -> int:
        """The most epochs that one kill made one trial train again."""
        return max(self.redone.values(), default=0)


def judged(notes: Sequence[Note], kills: Sequence[Kill], accounts: Accounts) -> Verdict:
    """Return what a search lost, and what it did twice."""
    ended = [note for note in notes if note.what == "ended"]
    begun = [note for note in notes if note.what == "began"]
    had = Counter(note.trial for note in ended)
    return Verdict(
        lost=_lost(begun, kills, accounts),
        doubles=[*_doubles(begun), *accounts.twice],
        redone=_redone(ended, kills),
        cut=len(begun) - len(ended),
        abandoned={note.trial: had[note.trial] for note in begun if note.trial not in accounts.epochs},
        trained=len(ended),
    )


def _lost(begun: Sequence[Note], kills: Sequence[Kill], accounts: Accounts) -> list[str]:
    lost = set()
    for kill in kills:
        again = {note.trial for note in begun if note.at > kill.at}
        lost |= {f"trial {trial} is missing" for trial in kill.finished - accounts.epochs.keys()}
        lost |= {f"trial {trial} was trained on" for trial in kill.finished & again}
    return sorted(lost)


def _doubles(begun: Sequence[Note]) -> list[str]:
    """Return the points that several trials trained, once for each trial too many."""
    trials: dict[str, set[str]] = defaultdict(set)
    for note in begun:
        trials[note.point].add(note.trial)
    return [
        f"trials {', '.join(sorted(same))} train one point"
        for same in trials.values()
        for _ in range(len(same) - 1)
    ]


def _redone(ended: Sequence[Note], kills: Sequence[Kill]) -> dict[tuple[int, str], int]:
    """Return by (kill, trial) how many epochs were trained again; kill −1 is none.

    It is the first kill between both times, or, where a worker outlived its driver, the last before both.
    """
    known: dict[tuple[str, int], float] = {}
    redone: Counter[tuple[int, str]] = Counter()
    for note in ended:
        before = known.get((note.trial, note.epoch))
        if before is not None:
            earlier = [at for at, kill in enumerate(kills) if kill.at <= note.at]
            between = [at for at in earlier if kills[at].at >= before]
            redone[(between[:1] or earlier[-1:] or [-1])[0], note.trial] += 1
        known[note.trial, note.epoch] = note.at
    return dict(redone)
