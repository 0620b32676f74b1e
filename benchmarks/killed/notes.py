"""What a training process says of its epochs, as they begin and end, whatever is recorded of them later."""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

NOTES = "KILL_RESUME_NOTES"
"""The variable that names the file; it also marks the processes that a killed search has left."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """A line of the file: an epoch of a trial has begun or ended, or the driver calls the trial done.

    `point` is what is trained, as text: two trials with equal ones train the same. `at` is the time of day,
    the one clock that processes share.
    """

    what: Literal["began", "ended", "done"]
    trial: str
    epoch: int
    point: str
    pid: int
    at: float


def write(what: Literal["began", "ended", "done"], trial: str, epoch: int, point: str) -> None:
    """Append a note in one piece, so that a kill tears none and two processes don't mix theirs."""
    note = Note(what=what, trial=trial, epoch=epoch, point=point, pid=os.getpid(), at=time.time())
    file = os.open(os.environ[NOTES], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, (json.dumps(asdict(note)) + "\n").encode())
    finally:
        os.close(file)


class NoteFile:
    """The notes of one search, read as they come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._notes: list[Note] = []
        self._read_bytes = 0

    def notes(self) -> list[Note]:
        """Return all notes so far, in the order in which they were written."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._read_bytes)
                whole = file.read().rpartition(b"\n")[0]
            if whole:
                self._notes += [Note(**json.loads(line)) for line in whole.splitlines()]
                self._read_bytes += len(whole) + 1
        return self._notes
