"""The run directory: `results/<name>/`, all that a command left, read and written in one place."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from hkbench.errors import UsageError
from hkbench.store import atomic
from hkbench.store.digest import sha256_of
from hkbench.store.records import (
    SCHEMA,
    BenchmarkRecord,
    EpochRecord,
    ModelRecord,
    Record,
    RunRecord,
    TelemetryRecord,
    TrialRecord,
)

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Record)

LINES: dict[type[Record], str] = {
    TrialRecord: "trials.jsonl",
    EpochRecord: "epochs.jsonl",
    BenchmarkRecord: "benchmark.jsonl",
    TelemetryRecord: "telemetry.jsonl",
}


class RunDirectory:
    """One run on disk. Lines are appended; whole files are replaced; readers tolerate a torn last line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def run_file(self) -> Path:
        """`run.json`, whose presence makes a folder a run directory."""
        return self.path / "run.json"

    @property
    def models(self) -> Path:
        """The folder with one sub-folder for each exported model."""
        return self.path / "models"

    @property
    def predictions(self) -> Path:
        """The Parquet file with the logits of the frontier and the teacher."""
        return self.path / "predictions.parquet"

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Open a run that exists.

        Raises:
            UsageError: `path` is no run directory.
        """
        run = cls(path)
        if not run.run_file.is_file():
            raise UsageError(
                f"{path} is not a run directory: it has no run.json. "
                "Name a folder that 'hkbench search' has made, such as results/demo."
            )
        return run

    def read_run(self) -> RunRecord:
        """Read `run.json`."""
        return _parse(RunRecord, self.run_file.read_text(encoding="utf-8"), str(self.run_file))

    def write_run(self, record: RunRecord) -> None:
        """Replace `run.json`."""
        atomic.write_text(self.run_file, record.model_dump_json(indent=2) + "\n")

    def append(self, record: Record) -> None:
        """Append a record to the file of its kind."""
        atomic.append_line(self.path / LINES[type(record)], record.model_dump_json())

    def read(self, kind: type[R]) -> list[R]:
        """Read all records of a kind in the order in which they were written; no file is no records."""
        return list(self._lines(kind))

    def _lines(self, kind: type[R]) -> Iterator[R]:
        path = self.path / LINES[kind]
        if not path.is_file():
            return
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                json.loads(line)
            except json.JSONDecodeError:
                log.warning("%s, line %d is torn and was passed over", path, number)
                continue
            yield _parse(kind, line, f"{path}, line {number}")

    def trials(self) -> list[TrialRecord]:
        """Read the trials, the last line of each number, by number."""
        latest = {trial.number: trial for trial in self._lines(TrialRecord)}
        return [latest[number] for number in sorted(latest)]

    def epochs(self) -> list[EpochRecord]:
        """Read the epochs, the last line of each (trial, epoch), trial by trial in order."""
        latest = {(str(row.trial), row.epoch): row for row in self._lines(EpochRecord)}
        return sorted(latest.values(), key=lambda row: (row.trial == "teacher", row.trial, row.epoch))

    def model_records(self) -> list[ModelRecord]:
        """Read every `models/<id>/model.json`, by id."""
        files = sorted(self.models.glob("*/model.json"))
        return [_parse(ModelRecord, file.read_text(encoding="utf-8"), str(file)) for file in files]

    def onnx_file(self, record: ModelRecord) -> Path:
        """Return where the ONNX file of a model lies, or would."""
        return self.models / record.id / record.files.get("onnx", "model.onnx")

    def holds(self, record: ModelRecord) -> bool:
        """Whether the very file that a record is of lies in the run."""
        path = self.onnx_file(record)
        return path.is_file() and sha256_of(path) == record.sha256

    def write_model(self, record: ModelRecord) -> None:
        """Replace `models/<id>/model.json`."""
        atomic.write_text(self.models / record.id / "model.json", record.model_dump_json(indent=2) + "\n")


def _parse(kind: type[R], text: str, where: str) -> R:
    try:
        found = json.loads(text)
        if isinstance(found, dict) and found.get("schema_version", SCHEMA) > SCHEMA:
            raise UsageError(
                f"{where} has schema {found['schema_version']}, this hkbench reads up to {SCHEMA}. "
                "Upgrade hkbench to read it."
            )
        return kind.model_validate(found)
    except (json.JSONDecodeError, ValidationError) as error:
        raise UsageError(f"{where} can't be read as {kind.__name__}: {error}") from error
