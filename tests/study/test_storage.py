"""Where studies and checkpoints are kept: what `--storage` names, and what happens when it isn't there."""

import errno
import json

import fsspec
import pytest
from optuna import create_study
from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from pyarrow.fs import FSSpecHandler, PyFileSystem

from hkbench.errors import UsageError
from hkbench.study import storage
from hkbench.study.storage import (
    STORAGE_FILE,
    Places,
    RunStorage,
    Translating,
    command_without_passwords,
    in_database,
    open_storage,
    places_of,
    without_password,
)
from hkbench.trials import checkpoint_store
from hkbench.trials.checkpoint_store import CheckpointStore
from hkbench.trials.patience import WAITS_S, StorageError

SECRET = "postgresql://me:secret@host/hkbench"


class Slept(list):
    """A sleep that takes no time."""

    def __call__(self, seconds):
        self.append(seconds)


def test_the_form_of_a_name_says_what_it_is_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = places_of([SECRET, "s3://bucket/prefix/"])
    assert (places.study, places.checkpoints) == (SECRET, "s3://bucket/prefix")
    assert places_of(["shared"]).checkpoints == str(tmp_path / "shared")
    assert places_of(["journal:/a/b.log"]).study == "journal:/a/b.log"
    assert places_of(["rediss://host:6379/0"]).study == "rediss://host:6379/0"
    assert places_of([]) == places_of(())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["sqlite:///a.db"], "its locks don't hold"),
        (["mysql://me:secret@host/a"], r"found 'mysql://me:\*\*\*@host/a'"),
        (["ftp://host/a"], "postgresql://"),
        ([""], "found ''"),
        (["/a", "s3://bucket/a"], "two places for checkpoints: /a and s3://bucket/a"),
        ([SECRET, "redis://host"], r"two places for the study: postgresql://me:\*\*\*@host/hkbench"),
    ],
)
def test_other_names_are_refused(given, said):
    with pytest.raises(UsageError, match=said):
        places_of(given)


def test_no_password_is_shown():
    assert without_password(SECRET) == "postgresql://me:***@host/hkbench"
    assert without_password("redis://:secret@host") == "redis://:***@host"
    assert without_password("postgresql://me@host/a") == "postgresql://me@host/a"
    assert command_without_passwords(["--storage", SECRET, "--out", "a"])[1] == without_password(SECRET)


def test_two_runs_of_one_name_have_studies_of_their_own(tmp_path):
    given = Places(study="postgresql://host/hkbench", checkpoints="/shared")
    first, second = (RunStorage.of(tmp_path / each / "run", "thesis", given) for each in "ab")
    assert first.name != second.name
    assert first.name.startswith("thesis-run-")
    assert first.checkpoint_store(tmp_path).where == f"/shared/{first.name}"
    assert RunStorage.of(tmp_path / "a" / "run", "thesis", given) == first
    assert RunStorage.of(tmp_path / "a" / "run", "thesis", Places()) == first


def test_without_storage_a_run_is_as_it_was(tmp_path):
    storage = RunStorage.of(tmp_path, "thesis", Places())
    assert (storage.name, storage.journal(tmp_path)) == ("thesis", tmp_path / "study.log")
    assert storage.checkpoint_store(tmp_path).folder == tmp_path / "checkpoints"
    assert not (tmp_path / STORAGE_FILE).exists()


def test_a_password_is_not_kept_and_asked_for_again(tmp_path):
    storage = RunStorage.of(tmp_path, "thesis", Places(study=SECRET))
    assert storage.study == SECRET
    assert "secret" not in (tmp_path / STORAGE_FILE).read_text()
    assert RunStorage.of(tmp_path, "thesis", Places(study=SECRET)) == storage
    with pytest.raises(UsageError, match="with the password"):
        RunStorage.of(tmp_path, "thesis", Places())


def test_what_is_elsewhere_is_not_taken_for_this_run_s(tmp_path):
    RunStorage.of(tmp_path / "a", "thesis", Places(study="redis://one"))
    with pytest.raises(UsageError, match="has its study at redis://one, not at redis://other"):
        RunStorage.of(tmp_path / "a", "thesis", Places(study="redis://other"))
    with pytest.raises(UsageError, match="has its checkpoints itself, not at /shared"):
        RunStorage.of(tmp_path / "a", "thesis", Places(checkpoints="/shared"))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "study.log").touch()
    with pytest.raises(UsageError, match="holds its study and its checkpoints itself: leave --storage out"):
        RunStorage.of(tmp_path / "b", "thesis", Places(study="redis://one"))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / STORAGE_FILE).write_text("{}")
    with pytest.raises(UsageError, match="doesn't say where the study is"):
        RunStorage.of(tmp_path / "c", "thesis", Places())


def test_a_journal_file_holds_one_run_s_study(tmp_path):
    given = places_of([f"journal:{tmp_path}/shared/study.log"])
    storage = RunStorage.of(tmp_path / "a", "thesis", given)
    create_study(study_name=storage.name, storage=storage.open(tmp_path / "a"))
    assert storage.journal(tmp_path / "a") == tmp_path / "shared" / "study.log"
    assert RunStorage.of(tmp_path / "a", "thesis", given) == storage
    with pytest.raises(UsageError, match="another run's study"):
        RunStorage.of(tmp_path / "b", "thesis", given)
    assert not (tmp_path / "b" / STORAGE_FILE).exists()


@pytest.mark.parametrize(
    ("url", "package"),
    [(SECRET, r"pip install 'psycopg\[binary\]'"), ("redis://host", "pip install 'redis'")],
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, url, package):
    monkeypatch.setattr(storage, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=package) as refused:
        open_storage(url, tmp_path / "study.log")
    assert "secret" not in str(refused.value)


def test_a_database_out_of_reach_is_waited_for(tmp_path, monkeypatch):
    def refuse(url):
        raise StorageInternalError("no route to host")

    monkeypatch.setattr(storage, "in_database", refuse)
    slept = Slept()
    with pytest.raises(StorageError, match=r"me:\*\*\*@host/hkbench can't be reached.*no route") as stopped:
        open_storage(SECRET, tmp_path / "study.log", sleep=slept)
    assert slept == list(WAITS_S)
    assert "secret" not in str(stopped.value)


def test_a_database_that_comes_back_is_opened(tmp_path, monkeypatch):
    tries = []

    def refuse_once(url):
        tries.append(url)
        if len(tries) == 1:
            raise StorageInternalError("starting up")
        return in_database(f"sqlite:///{tmp_path}/study.db")

    monkeypatch.setattr(storage, "in_database", refuse_once)
    opened = open_storage(SECRET, tmp_path / "study.log", sleep=Slept())
    assert create_study(study_name="a", storage=opened).study_name == "a"


def test_a_database_that_cannot_be_opened_says_so_as_optuna_does(tmp_path):
    with pytest.raises(StorageInternalError, match="unable to open database file"):
        in_database(f"sqlite:///{tmp_path}/nowhere/study.db")


class FakeRedis(BaseJournalBackend):
    """A journal in memory that fails while it is told to."""

    def __init__(self):
        self.logs, self.broken = [], False

    def read_logs(self, log_number_from):
        for entry in self.logs[log_number_from:]:
            if self.broken:
                raise LookupError("connection lost")
            yield json.loads(entry)

    def append_logs(self, logs):
        if self.broken:
            raise LookupError("connection lost")
        self.logs += map(json.dumps, logs)


def test_a_lost_connection_is_told_as_optuna_tells_it():
    backend = FakeRedis()
    study = create_study(storage=JournalStorage(Translating(backend, (LookupError,))))
    backend.broken = True
    with pytest.raises(StorageInternalError, match="connection lost"):
        study.ask()
    backend.logs.append(backend.logs[-1])
    with pytest.raises(StorageInternalError, match="connection lost"):
        list(Translating(backend, (LookupError,)).read_logs(0))


@pytest.fixture
def in_memory(monkeypatch):
    """An object store that is kept in memory."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    found = PyFileSystem(FSSpecHandler(memory)), "bucket/prefix"
    monkeypatch.setattr(checkpoint_store, "filesystem_of", lambda url: found)
    yield CheckpointStore(where="s3://bucket/prefix", sleep=Slept())
    memory.store.clear()


@pytest.fixture(params=["folder", "object store"])
def checkpoints(request, tmp_path):
    if request.param == "folder":
        return CheckpointStore(where=str(tmp_path / "checkpoints"), sleep=Slept())
    return request.getfixturevalue("in_memory")


def test_what_was_put_is_got(checkpoints, tmp_path):
    assert not checkpoints.exists("00001.pt")
    with pytest.raises(FileNotFoundError, match=r"00001\.pt isn't there"):
        checkpoints.get("00001.pt")
    assert checkpoints.sleep == []  # waiting brings back no file that was never there
    checkpoints.put("00001.pt", b"first")
    checkpoints.put("00001.pt", memoryview(b"second"))
    assert checkpoints.exists("00001.pt")
    assert checkpoints.get("00001.pt") == b"second"
    assert not checkpoints.exists("00002.pt")


def test_a_file_is_read_as_a_path_is(checkpoints):
    file = checkpoints.file("00001.pt")
    assert not file.exists()
    with pytest.raises(FileNotFoundError):
        file.read_bytes()
    checkpoints.put("00001.pt", b"here")
    assert (file.exists(), file.read_bytes()) == (True, b"here")
    assert str(file).endswith("/00001.pt")


def test_files_are_removed_by_their_names_ends(checkpoints):
    checkpoints.clear("*.attempt")  # nothing is there yet
    for name in ("00001.pt", "00001.attempt", "00002.attempt", ".00001.pt.host-1.tmp"):
        checkpoints.put(name, b"1")
    checkpoints.clear("*.attempt", ".*.tmp")
    names = ("00001.pt", "00001.attempt", "00002.attempt", ".00001.pt.host-1.tmp")
    assert [name for name in names if checkpoints.exists(name)] == ["00001.pt"]


def test_files_are_copied_to_and_from_it(checkpoints, tmp_path):
    source, there = tmp_path / "source", tmp_path / "there" / "copy"
    source.write_bytes(b"x" * (5 << 20))
    checkpoints.put_file("logits", source)
    checkpoints.get_file("logits", there)
    assert there.read_bytes() == source.read_bytes()
    with pytest.raises(FileNotFoundError):
        checkpoints.get_file("nothing", tmp_path / "there" / "nothing")
    assert [path.name for path in there.parent.iterdir()] == ["copy"]


class FencedOffError(Exception):
    """What a fence raises."""


def test_a_check_that_refuses_keeps_the_older_one(checkpoints):
    checkpoints.put("00001.pt", b"first")

    def refuse():
        raise FencedOffError

    with pytest.raises(FencedOffError):
        checkpoints.put("00001.pt", b"second", refuse)
    assert checkpoints.get("00001.pt") == b"first"


class Refusing(FSSpecHandler):
    """An object store that fails in the midst of a file, so many times."""

    def __init__(self, filesystem, failures):
        super().__init__(filesystem)
        self.failures = failures

    def move(self, source, target):
        if self.failures:
            self.failures -= 1
            raise OSError(errno.ETIMEDOUT, "timed out")
        super().move(source, target)


@pytest.mark.parametrize("failures", [2, 99])
def test_an_object_store_out_of_reach_is_waited_for_and_loses_nothing(monkeypatch, failures):
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    handler = Refusing(memory, failures=0)
    monkeypatch.setattr(checkpoint_store, "filesystem_of", lambda url: (PyFileSystem(handler), "bucket/it"))
    slept = Slept()
    checkpoints = CheckpointStore(where="s3://bucket/it", sleep=slept)
    checkpoints.put("00001.pt", b"first")
    handler.failures = failures
    if failures < len(WAITS_S):
        checkpoints.put("00001.pt", b"second")
        assert checkpoints.get("00001.pt") == b"second"
    else:
        with pytest.raises(StorageError, match="s3://bucket/it can't be reached") as stopped:
            checkpoints.put("00001.pt", b"second")
        assert isinstance(stopped.value.__cause__, OSError)  # so that the trial is tried again
        assert checkpoints.get("00001.pt") == b"first"
    assert slept == list(WAITS_S[:failures])
    assert list(memory.store) == ["/bucket/it/00001.pt"]
    memory.store.clear()


def test_a_folder_that_comes_back_is_waited_for(tmp_path):
    folder = tmp_path / "mount" / "checkpoints"
    folder.parent.write_text("a file where the mount belongs")

    def mount(seconds):
        folder.parent.unlink()

    CheckpointStore(where=str(folder), sleep=mount).put("a", b"here")
    assert (folder / "a").read_bytes() == b"here"


def test_a_url_that_is_none_is_refused():
    with pytest.raises(UsageError, match="needs a prefix within the bucket"):
        checkpoint_store.filesystem_of("s3://bucket?region=eu-west-1")
    with pytest.raises(UsageError, match="can't be used"):
        checkpoint_store.filesystem_of("s3://[")
