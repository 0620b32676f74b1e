"""`hkbench search` as a search to kill, and what its run directory says in the end."""

import json
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from benchmarks.killed.notes import Note
from benchmarks.killed.processes import environment
from benchmarks.killed.verdict import Accounts
from hkbench.store.records import EpochRecord, TrialRecord
from hkbench.store.rundir import LINES, RunDirectory

ROOT = Path(__file__).parents[2]
SITE = Path(__file__).parent / "site"
HKBENCH = Path(sys.executable).parent / "hkbench"
SPACE = ROOT / "benchmarks" / "kill_resume.yaml"
UNTAUGHT = [
    "--set",
    "parameters={learning_rate: {type: float, low: 0.005, high: 0.05, log: true}}",
    "--set",
    "defaults.loss=hard",
]
SAID = re.compile(r"trial (\d+) (?:done|stopped|failed) after")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a search is; without a teacher it trains none, and no twin in the end."""

    trials: int
    epochs: int
    at_once: int = 2
    taught: bool = True


class HkbenchSearch:
    """A search by the command line, in a folder of its own; `home` is shared, with its cache."""

    export_line: str | None = "export …"

    def __init__(self, folder: Path, home: Path, pictures: Path, size: Size, seed: int) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._home, self._pictures, self._size, self._seed = home, pictures, size, seed
        self._run = RunDirectory(folder / "run")

    def command(self) -> list[str]:
        """Return the command, with `--resume` where a run directory is there."""
        size = self._size
        flags: dict[str, object] = {
            "--space": SPACE,
            "--data": self._pictures,
            "--out": self._run.path,
            "--trials": size.trials,
            "--epochs": size.epochs,
            "--max-concurrent": size.at_once,
            "--views": 1,
            "--seed": self._seed,
            "--set": f"schedule.grace={size.epochs}",
        }
        words = [str(word) for flag in flags.items() for word in flag]
        untaught = [] if size.taught else UNTAUGHT
        resume = ["--resume"] if self._run.run_file.exists() else []
        return [str(HKBENCH), "search", *words, *untaught, *resume]

    def environment(self, notes: Path) -> dict[str, str]:
        """Return an environment in which the workers write notes."""
        return environment(notes, self._home, (SITE, ROOT))

    def finished(self, notes: list[Note], printed: str) -> set[str]:
        """Return the trials that are on record, or of which the command has said that they ended."""
        del notes
        return {str(row["number"]) for row in self._rows(TrialRecord)} | set(SAID.findall(printed))

    def accounts(self) -> Accounts:
        """Return what records and study say; the study must know of no other ends than the records."""
        run, size = self._run, self._size
        trials = run.trials()
        searched = [trial for trial in trials if not (trial.seed_point or "").startswith("twin")]
        lines = Counter(f"trial {row['number']}" for row in self._rows(TrialRecord))
        lines += Counter(
            f"epoch {row['epoch']} of trial {row['trial']}"
            for row in self._rows(EpochRecord)
            if row["trial"] != "teacher"
        )
        flaws = [
            f"trial {trial.number}: {trial.state} after {trial.epochs} epochs, {trial.reason}"
            for trial in trials
            if trial.state != "COMPLETE" or trial.epochs != size.epochs
        ]
        if len(searched) != size.trials:
            flaws.append(f"{len(searched)} trials are on record instead of {size.trials}")
        return Accounts(
            epochs={str(trial.number): trial.epochs for trial in trials},
            twice=[f"{what} is on record {count} times" for what, count in lines.items() if count > 1],
            flaws=[*flaws, *self._differences(trials)],
        )

    def _differences(self, trials: list[TrialRecord]) -> list[str]:
        """Return how the study differs from the records."""
        journal = self._run.path / "study.log"
        if not journal.exists():
            return ["there is no study"]
        (study,) = JournalStorage(JournalFileBackend(str(journal))).get_all_studies()
        found = optuna.load_study(
            study_name=study.study_name, storage=JournalStorage(JournalFileBackend(str(journal)))
        )
        told = {trial.number: trial.state.name for trial in found.get_trials(deepcopy=False)}
        recorded = {trial.number: trial.state for trial in trials}
        return [
            f"trial {number} is {told.get(number)} in the study, {recorded.get(number)} on record"
            for number in sorted(told.keys() | recorded.keys())
            if told.get(number) != recorded.get(number)
        ]

    def _rows(self, kind: type[TrialRecord] | type[EpochRecord]) -> list[dict[str, object]]:
        """Return the whole lines of a file of records."""
        path = self._run.path / LINES[kind]
        if not path.exists():
            return []
        rows = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return rows
