"""Where a study is kept: in the run directory, in a journal file, in PostgreSQL or in Redis."""

import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, Self

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend
from pydantic import ValidationError

from hkbench.errors import UsageError
from hkbench.store.atomic import write_text
from hkbench.store.records import Record
from hkbench.study.journal import GroupingJournal
from hkbench.trials.checkpoint_store import OBJECT_STORES, CheckpointStore, with_prefix, within
from hkbench.trials.patience import Patience

STUDY_FILE = "study.log"
STORAGE_FILE = "storage.json"
CHECKPOINTS = "checkpoints"
JOURNAL = "journal:"
POSTGRES = ("postgresql://", "postgres://")
REDIS = ("redis://", "rediss://")
KNOWN = "a folder, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, journal:FILE, postgresql://… or redis://…"
CONNECT_WITHIN_S = 10
HIDDEN = "***"
PASSWORD = re.compile(r"(?<=://)([^/@:]*):([^@]*)@")


@dataclass(frozen=True, kw_only=True)
class Places:
    """What `--storage` names: where the study and the checkpoints are kept; None is the run directory."""

    study: str | None = None
    checkpoints: str | None = None


def places_of(given: Sequence[str]) -> Places:
    """Tell by their form which of the names given with `--storage` is for the study, which for checkpoints.

    Raises:
        UsageError: a name of neither form, or two of one.
    """
    study: list[str] = []
    checkpoints: list[str] = []
    for text in given:
        if text.startswith(JOURNAL):
            study.append(JOURNAL + str(Path(text.removeprefix(JOURNAL)).expanduser().resolve()))
        elif text.startswith((*POSTGRES, *REDIS)):
            study.append(text)
        elif text.startswith(OBJECT_STORES):
            checkpoints.append(with_prefix(text))
        elif "://" in text or not text:
            _refuse(text)
        else:
            checkpoints.append(str(Path(text).expanduser().resolve()))
    for kind, names in (("the study", study), ("checkpoints", checkpoints)):
        if len(names) > 1:
            both = " and ".join(map(without_password, names))
            raise UsageError(f"--storage names two places for {kind}: {both}. Leave one of them out.")
    return Places(study=study[0] if study else None, checkpoints=checkpoints[0] if checkpoints else None)


def _refuse(text: str) -> NoReturn:
    if text.startswith("sqlite"):
        raise UsageError(
            "--storage takes no SQLite file: its locks don't hold on a folder that machines share, and it "
            "is ten times slower than a journal. Write journal:FILE, or leave --storage out: then the study "
            "is a journal in the run directory."
        )
    raise UsageError(f"--storage takes {KNOWN}; found '{without_password(text)}'.")


def without_password(text: str) -> str:
    """Return a URL as it may be shown and recorded."""
    return PASSWORD.sub(rf"\1:{HIDDEN}@", text)


class RunStorage(Record):
    """`storage.json`: where a run's study and checkpoints are, and the name of both there.

    The name is drawn once for each run and written down before anything is made under it. So what has that
    name is this run's own, and no other run's can be taken for it. A run that was given no storage has none
    of this: its study is called as its space. The URL lacks its password on disk.
    """

    study: str | None = None
    checkpoints: str | None = None
    name: str

    @classmethod
    def of(cls, run: Path, space: str, given: Places) -> Self:
        """Return a run's storage: the one on record, else what is given now, which is written down.

        Args:
            run: the run directory; whoever calls holds its lock.
            space: the space's name.
            given: from `places_of`.

        Raises:
            UsageError: the run has its study or its checkpoints elsewhere, or a file is there that isn't
                this run's.
        """
        recorded = cls._recorded(run / STORAGE_FILE)
        if recorded is not None:
            return recorded._agreed(given, run)
        if given == Places():
            return cls(name=space)
        if (run / STUDY_FILE).exists():
            raise UsageError(f"{run} holds its study and its checkpoints itself: leave --storage out.")
        name = f"{space}-{run.name}-{uuid.uuid4().hex[:12]}"
        chosen = cls(study=given.study, checkpoints=given.checkpoints, name=name)
        if chosen.journal(run).exists():
            raise UsageError(f"{chosen.journal(run)} is another run's study. Give --storage another file.")
        shown = chosen.model_copy(update={"study": _shown(given.study)})
        write_text(run / STORAGE_FILE, shown.model_dump_json(indent=2) + "\n")
        return chosen

    @classmethod
    def checkpoints_of(cls, run: Path) -> CheckpointStore:
        """Return where the checkpoints of a run are that is there, whether its study can be reached or not.

        Raises:
            UsageError: what the run has on record of it can't be read.
        """
        recorded = cls._recorded(run / STORAGE_FILE) or cls(name=run.name)
        return recorded.checkpoint_store(run)

    @classmethod
    def _recorded(cls, path: Path) -> Self | None:
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise UsageError(f"{path} doesn't say where the study is: {error.errors()[0]['msg']}.") from error

    def _agreed(self, given: Places, run: Path) -> Self:
        """Return the storage on record with the URL as it is given, for that has the password."""
        for kind, there, now in (
            ("study", self.study, _shown(given.study)),
            ("checkpoints", self.checkpoints, given.checkpoints),
        ):
            if now is not None and now != there:
                raise UsageError(
                    f"{run} has its {kind} {f'at {there}' if there else 'itself'}, not at {now}."
                )
        if given.study is None and HIDDEN in (self.study or ""):
            raise UsageError(
                f"The study of {run} is at {self.study}: give --storage again, with the password."
            )
        return self.model_copy(update={"study": given.study or self.study})

    def journal(self, run: Path) -> Path:
        """Return the journal file that holds the study; where a database does, one that isn't there."""
        if self.study is not None and self.study.startswith(JOURNAL):
            return Path(self.study.removeprefix(JOURNAL))
        return run / STUDY_FILE

    def checkpoint_store(self, run: Path) -> CheckpointStore:
        """Return where the checkpoints are: in the run directory, or under the run's name in the storage."""
        if self.checkpoints is None:
            return CheckpointStore.at(run / CHECKPOINTS)
        return CheckpointStore(where=within(self.checkpoints, self.name))

    def open(self, run: Path, *, sleep: Callable[[float], None] = time.sleep) -> BaseStorage:
        """Open the study's storage; one that is out of reach is tried again for a while.

        Raises:
            UsageError: a package is missing that it takes.
            StorageError: it stayed out of reach.
        """
        return open_storage(self.study, self.journal(run), sleep=sleep)


def _shown(url: str | None) -> str | None:
    return None if url is None else without_password(url)


def open_storage(
    url: str | None, journal: Path, *, sleep: Callable[[float], None] = time.sleep
) -> BaseStorage:
    """Open what `url` names, else the journal file.

    Raises:
        UsageError: a package is missing that it takes.
        StorageError: it stayed out of reach.
    """
    if url is None or url.startswith(JOURNAL):
        journal.parent.mkdir(parents=True, exist_ok=True)
        return _in_file(journal)
    opened = _in_redis if url.startswith(REDIS) else in_database
    patiently = Patience(without_password(url), mend=lambda: None, sleep=sleep)
    return patiently(lambda: opened(url))


def check_storage(url: str | None) -> None:
    """Open a study's storage and leave it, before anything is done that would be lost with it.

    Raises:
        UsageError: a package is missing that it takes.
        StorageError: it stayed out of reach.
    """
    if url is not None and not url.startswith(JOURNAL):
        open_storage(url, Path(STUDY_FILE))


def check_places(places: Places, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Reach for the study's storage and for the bucket of the checkpoints, as `check_storage` does.

    Raises:
        UsageError: a package is missing that it takes, or a URL is none.
        StorageError: one of them stayed out of reach.
    """
    check_storage(places.study)
    if places.checkpoints is not None and places.checkpoints.startswith(OBJECT_STORES):
        CheckpointStore(where=places.checkpoints, sleep=sleep).exists(STORAGE_FILE)


def _in_file(path: Path) -> BaseStorage:
    return JournalStorage(GroupingJournal(path))


def in_database(url: str) -> BaseStorage:
    """Open a database; its tables are made where they aren't there.

    Raises:
        StorageInternalError: it can't be reached, or refuses us.
    """
    if url.startswith(POSTGRES):
        _need("psycopg", "psycopg[binary]", url)
        url = "postgresql+psycopg://" + url.split("://", 1)[1]
    from optuna.storages import RDBStorage  # SQLAlchemy takes half a second
    from sqlalchemy.exc import SQLAlchemyError

    within = {"connect_args": {"connect_timeout": CONNECT_WITHIN_S}} if url.startswith("postgres") else {}
    try:
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True, **within})
    except SQLAlchemyError as error:
        raise StorageInternalError(str(error).splitlines()[0]) from error


def _in_redis(url: str) -> BaseStorage:
    _need("redis", "redis", url)
    from optuna.storages.journal import JournalRedisBackend

    from hkbench.study.samplers import experimental_parts

    with experimental_parts():
        backend = JournalRedisBackend(url)
    storage = JournalStorage(Translating(backend, (import_module("redis.exceptions").RedisError,)))
    storage.get_all_studies()  # connects
    return storage


class Translating(BaseJournalBackend):
    """A backend whose own errors are told as Optuna's, which is what is waited out."""

    def __init__(self, backend: BaseJournalBackend, errors: tuple[type[Exception], ...]) -> None:
        self._backend = backend
        self._errors = errors

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Return the entries from a number on."""
        try:
            return iter(list(self._backend.read_logs(log_number_from)))
        except self._errors as error:
            raise StorageInternalError(str(error)) from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries."""
        try:
            self._backend.append_logs(logs)
        except self._errors as error:
            raise StorageInternalError(str(error)) from error


def _need(module: str, package: str, url: str) -> None:
    if find_spec(module) is None:
        raise UsageError(
            f"A study at {without_password(url)} needs the package {module}, which isn't installed: "
            f"pip install '{package}'."
        )


def command_without_passwords(command: Iterable[str]) -> list[str]:
    """Return a command line as it may be recorded."""
    return [without_password(word) for word in command]
