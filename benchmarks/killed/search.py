"""Kills one search again and again, each time at its moment, goes on with it, and lets it come to its end."""

import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from benchmarks.killed.moments import Moment, Phase, Victim
from benchmarks.killed.notes import Note, NoteFile
from benchmarks.killed.processes import (
    end_all,
    kill_together,
    of_search,
    raylet_of,
    worker_of,
)
from benchmarks.killed.verdict import Accounts, Kill, Verdict, judged

LOOK_EVERY_S = 0.01
HANGS_AFTER_S = 180.0
"""So long may a search take to its next moment, or to its end: many times what it needs."""
ENDS_WITHIN_S = 30.0
"""So long may a driver whose raylet was killed take to end by itself; then it is killed too."""
MOST_FAILURES = 2
"""A search that can't be gone on with so many times in a row is given up."""
SHOWN_LINES = 5


class Subject(Protocol):
    """A kind of search that can be killed."""

    folder: Path
    export_line: str | None
    """What the search prints when its trials are over; None where it does nothing after them."""

    def command(self) -> list[str]:
        """Return the command that begins the search, or goes on with what is there."""

    def environment(self, notes: Path) -> dict[str, str]:
        """Return its environment, with the notes' file in it."""

    def finished(self, notes: list[Note], printed: str) -> set[str]:
        """Return the trials that the search calls finished, anywhere."""

    def accounts(self) -> Accounts:
        """Return what is recorded in the end."""


@dataclass(kw_only=True)
class Pace:
    """How long things take here, by the searches so far: moments are placed by it."""

    start_up_s: float = 8.0
    epoch_s: float = 0.3
    export_s: float = 4.0

    def learn(self, notes: list[Note]) -> None:
        """Take an epoch's length from the notes."""
        begun: dict[tuple[int, str, int], float] = {}
        took = []
        for note in notes:
            key = (note.pid, note.trial, note.epoch)
            if note.what == "began":
                begun[key] = note.at
            elif note.what == "ended" and key in begun:
                took.append(note.at - begun[key])
        self.epoch_s = statistics.median(took) if took else self.epoch_s


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A search after all its kills; `finished` says that it came to its end with exit code 0."""

    kills: list[Kill]
    finished: bool
    lives: int
    seconds: float
    accounts: Accounts
    verdict: Verdict
    remarks: list[str] = field(default_factory=list)


class Life:
    """One process of a search, from its start until it is killed or ends."""

    def __init__(self, subject: Subject, notes: NoteFile, printed: Path) -> None:
        self._subject = subject
        self._notes = notes
        self._printed = printed
        with printed.open("w") as output:
            self.process = subprocess.Popen(
                subject.command(),
                cwd=subject.folder,
                env=subject.environment(notes.path),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.begun = len(notes.notes())
        self.started = time.time()
        self.mark()

    def mark(self) -> None:
        """Count what comes from here on: the life has begun, or has lost a worker."""
        self.since, self._first = time.time(), len(self._notes.notes())

    @property
    def printed(self) -> str:
        """What the process has printed."""
        return self._printed.read_text(errors="replace")

    @property
    def over(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def epochs(self) -> list[Note]:
        """Return the notes of the epochs that have begun since the mark."""
        return [note for note in self._notes.notes()[self._first :] if note.what == "began"]

    def phase(self) -> Phase:
        """Return what the search is doing, as far as it shows."""
        if self._subject.export_line is not None and self._subject.export_line in self.printed:
            return "export"
        trained = any(note.what == "began" for note in self._notes.notes()[self.begun :])
        return "training" if trained else "start-up"

    def problem(self) -> str | None:
        """Return how the process ended, or that it hangs; None after exit code 0."""
        if self.process.poll() == 0:
            return None
        how = f"exit code {self.process.returncode}" if self.over else f"hung for {HANGS_AFTER_S:.0f} s"
        last = " | ".join(self.printed.splitlines()[-SHOWN_LINES:])
        return f"{how}: {last}"

    def wait(self, ready: Callable[[], bool], limit_s: float = HANGS_AFTER_S) -> bool:
        """Wait until something is so; False if the process ends before it, or the time is up."""
        until = time.time() + limit_s
        while not self.over and time.time() < until:
            if ready():
                return True
            time.sleep(LOOK_EVERY_S)
        return False

    def reach(self, moment: Moment, pace: Pace) -> bool:
        """Wait for a moment; False if it doesn't come."""
        if moment.phase == "start-up":
            return self._until(self.since + moment.share * pace.start_up_s)
        if moment.phase == "export" and self._subject.export_line is not None:
            return self.comes_to_export() and self._in(moment.share * pace.export_s)
        came = self.wait(lambda: len(self.epochs()) >= moment.epochs)
        pace.learn(self._notes.notes())
        if came and self.since == self.started:
            pace.start_up_s = self.epochs()[0].at - self.started
        return came and self._in(moment.share * pace.epoch_s)

    def comes_to_export(self) -> bool:
        """Wait until the trials are over; False where nothing comes after them."""
        line = self._subject.export_line
        return line is not None and self.wait(lambda: line in self.printed)

    def _in(self, seconds: float) -> bool:
        return self._until(time.time() + seconds)

    def _until(self, when: float) -> bool:
        return self.wait(lambda: time.time() >= when)


class KilledSearch:
    """A search that is killed at some moments; nothing of it lives when `outcome` has returned."""

    def __init__(self, subject: Subject, pace: Pace) -> None:
        self._subject = subject
        self._pace = pace
        self._notes = NoteFile(subject.folder / "notes.jsonl")
        self._lives: list[Life] = []
        self._kills: list[Kill] = []
        self._remarks: list[str] = []
        self._failures = 0

    def outcome(self, moments: list[Moment]) -> Outcome:
        """Kill the search at each moment that it lives to see, let it end, and judge it."""
        started = time.perf_counter()
        try:
            finished = any(self._killed_at(moment) for moment in moments) or self._ended()
        finally:
            end_all(self._notes.path, [life.process.pid for life in self._lives])
            for life in self._lives:
                life.process.wait()
        accounts = self._subject.accounts()
        return Outcome(
            kills=self._kills,
            finished=finished,
            lives=len(self._lives),
            seconds=time.perf_counter() - started,
            accounts=accounts,
            verdict=judged(self._notes.notes(), self._kills, accounts),
            remarks=self._remarks,
        )

    def _killed_at(self, moment: Moment) -> bool:
        """Kill the search at a moment; True if it came to its end before."""
        while self._failures < MOST_FAILURES:
            life = self._life()
            if life.reach(moment, self._pace):
                self._kill(life, moment)
                return False
            if self._is_through(life):
                return True
        return False

    def _ended(self) -> bool:
        """Let the search come to its end; False if it can't."""
        while self._failures < MOST_FAILURES:
            life = self._life()
            if life.comes_to_export():
                began = time.time()
                life.wait(lambda: False)
                self._pace.export_s = time.time() - began
            life.wait(lambda: False)
            if self._is_through(life):
                return True
        return False

    def _life(self) -> Life:
        """Return the process that lives, or go on with the search."""
        if not self._lives or self._lives[-1].over:
            printed = self._subject.folder / f"life_{len(self._lives)}.txt"
            self._lives.append(Life(self._subject, self._notes, printed))
        return self._lives[-1]

    def _is_through(self, life: Life) -> bool:
        """Whether a process that waits for nothing more has ended well; else the last kill has a problem."""
        problem = life.problem()
        if problem is None:
            return True
        self._failures += 1
        if self._kills:
            self._kills[-1].problem = self._kills[-1].problem or problem
        else:
            self._remarks.append(problem)
        self._kill_all()
        return False

    def _kill(self, life: Life, moment: Moment) -> None:
        victim, process = self._found(moment.victim, life)
        phase, after_s = life.phase(), time.time() - life.since
        finished = self._finished()
        if victim == "machine":
            self._kill_all()
        else:
            process.kill()
        if victim == "raylet" and not life.wait(lambda: False, ENDS_WITHIN_S) and not life.over:
            self._remarks.append(f"the driver lived on for {ENDS_WITHIN_S:.0f} s without its raylet")
            life.process.kill()
        if victim != "worker":
            life.process.wait()
            finished |= self._finished()  # without its raylet, a driver may go on for a while
        at = time.time()
        kill = Kill(
            moment=moment, phase=phase, victim=victim, at=at, after_s=after_s, finished=frozenset(finished)
        )
        self._kills.append(kill)
        self._failures = 0
        life.mark()

    def _finished(self) -> set[str]:
        printed = "".join(each.printed for each in self._lives)
        return self._subject.finished(self._notes.notes(), printed)

    def _found(self, victim: Victim, life: Life) -> tuple[Victim, psutil.Process]:
        """Return whom to kill: the driver in place of a process that isn't there."""
        driver = psutil.Process(life.process.pid)
        found = None
        if victim == "worker":
            found = worker_of(self._notes.notes(), driver.pid)
        elif victim == "raylet":
            found = raylet_of(driver.pid)
        elif victim == "machine":
            return victim, driver
        return ("driver", driver) if found is None else (victim, found)

    def _kill_all(self) -> None:
        kill_together(of_search(self._notes.path))
        for life in self._lives:
            with suppress(subprocess.TimeoutExpired):
                life.process.wait(ENDS_WITHIN_S)
