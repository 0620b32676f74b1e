"""Ray Tune's own way, `Tuner.restore` with `OptunaSearch`, as a search to kill."""

import json
import sys
from pathlib import Path

from benchmarks.killed.notes import Note
from benchmarks.killed.ours import ROOT, Size
from benchmarks.killed.processes import environment
from benchmarks.killed.verdict import Accounts

MODULE = "benchmarks.peers.restored"


class TuneSearch:
    """The peer's script in a folder of its own; `home` holds what all its searches share."""

    export_line: str | None = None

    def __init__(self, folder: Path, home: Path, pictures: Path, size: Size, seed: int) -> None:
        folder.mkdir(parents=True)
        self.folder, self._home, self._size = folder, home, size
        self._asked = folder / "asked.json"
        self._answer = folder / "answer.json"
        asked = {
            "pictures": str(pictures),
            "storage": str(folder),
            "ray": str(home / "ray"),
            "trials": size.trials,
            "epochs": size.epochs,
            "at_once": size.at_once,
            "seed": seed,
        }
        self._asked.write_text(json.dumps(asked))

    def command(self) -> list[str]:
        """Return the command; the script itself sees whether there is something to restore."""
        return [sys.executable, "-m", MODULE, str(self._asked), str(self._answer)]

    def environment(self, notes: Path) -> dict[str, str]:
        """Return an environment without hkbench's notes: the peer's trials write their own."""
        return environment(notes, self._home, (ROOT,))

    def finished(self, notes: list[Note], printed: str) -> set[str]:
        """Return the trials that Tune's callback has called complete."""
        del printed
        return {note.trial for note in notes if note.what == "done"}

    def accounts(self) -> Accounts:
        """Return what the last run's result grid holds."""
        if not self._answer.exists():
            return Accounts(epochs={}, flaws=["the search never came to its end"])
        rows = json.loads(self._answer.read_text())
        flaws = [
            f"trial {row['trial']}: {row['epochs']} epochs, {row['error']}"
            for row in rows
            if row["error"] is not None or row["epochs"] != self._size.epochs
        ]
        if len(rows) != self._size.trials:
            flaws.append(f"{len(rows)} trials are in the results instead of {self._size.trials}")
        return Accounts(epochs={row["trial"]: row["epochs"] for row in rows}, flaws=flaws)
