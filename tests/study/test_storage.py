"""Where studies and checkpoints are kept: what `--storage` names, and what happens when it isn't there."""

import errno
from dataclasses import replace
from types import SimpleNamespace

import fsspec
import pytest
from optuna import create_study
from optuna.exceptions import StorageInternalError
from optuna.storages.journal import BaseJournalBackend
from pyarrow.fs import FSSpecHandler, PyFileSystem
from search_fakes import Heard, fake_costs, result_of, tiny_plan
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from hkbench.driver.session import SearchSession
from hkbench.errors import UsageError
from hkbench.store.rundir import RunDirectory
from hkbench.study import storage
from hkbench.study.ask_tell import AskTell
from hkbench.study.storage import (
    STORAGE_FILE,
    Places,
    RunStorage,
    Translating,
    check_places,
    command_without_passwords,
    in_database,
    open_storage,
    places_of,
    without_password,
)
from hkbench.trials import checkpoint_store
from hkbench.trials.checkpoint_store import CheckpointStore
from hkbench.trials.patience import WAITS_S, Patience, StorageError

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


def test_a_store_of_one_s_own_keeps_its_options(tmp_path):
    url = "s3://bucket/prefix/?endpoint_override=host:9000&scheme=http"
    stored = RunStorage.of(tmp_path, "thesis", places_of([url]))
    found = stored.checkpoint_store(tmp_path)
    assert found.where == f"s3://bucket/prefix/{stored.name}?endpoint_override=host:9000&scheme=http"
    assert str(found.of_trial(3)).startswith(f"s3://bucket/prefix/{stored.name}/00003.pt?")
    assert checkpoint_store.filesystem_of(found.where)[1] == f"bucket/prefix/{stored.name}"


def test_a_bucket_out_of_reach_is_known_before_anything_is_done(monkeypatch):
    def refuse(url):
        raise PermissionError("access denied")

    monkeypatch.setattr(checkpoint_store, "filesystem_of", refuse)
    with pytest.raises(StorageError, match="s3://bucket/prefix can't be reached: access denied"):
        check_places(places_of(["s3://bucket/prefix"]), sleep=Slept())
    check_places(places_of(["/nowhere", "journal:/nowhere/study.log"]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["sqlite:///a.db"], "its locks don't hold"),
        (["mysql://me:secret@host/a"], r"found 'mysql://me:\*\*\*@host/a'"),
        (["ftp://host/a"], "postgresql://"),
        ([""], "found ''"),
        (["s3://bucket"], "such as s3://bucket/hkbench"),
        (["gs://bucket/?a=b"], r"such as gs://bucket/hkbench\?a=b"),
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


def test_postgresql_is_asked_through_psycopg_and_not_for_ever(monkeypatch):
    opened = []
    monkeypatch.setattr(storage, "find_spec", lambda name: name == "psycopg")
    monkeypatch.setattr(
        "optuna.storages.RDBStorage", lambda url, engine_kwargs: opened.append((url, engine_kwargs))
    )
    for url in (SECRET, SECRET.replace("postgresql", "postgres")):
        in_database(url)
    assert opened[0] == opened[1]
    url, options = opened[0]
    assert url == "postgresql+psycopg://me:secret@host/hkbench"
    assert options["connect_args"] == {"connect_timeout": storage.CONNECT_WITHIN_S}
    assert options["pool_pre_ping"]  # a connection that the server has closed is opened again


class RedisError(Exception):
    """What the package redis raises where the server is gone."""


class RedisServer(dict):
    """A Redis server and a client of it, as far as Optuna's journal asks."""

    broken = False

    def from_url(self, url):
        return self

    def _answer(self):
        if self.broken:
            raise RedisError("Connection refused")

    def get(self, key):
        self._answer()
        return dict.get(self, key)

    def setnx(self, key, value):
        self._answer()
        self.setdefault(key, value)

    def eval(self, script, keys, prefix, log):
        self._answer()
        assert "incr" in script
        self[f"{prefix}:log_number"] += 1
        self[f"{prefix}:log:{self[f'{prefix}:log_number']}"] = log


class Kept:
    """A place for a study, out of reach while it is `broken`."""

    def __init__(self, url):
        self.places = Places(study=url)
        self.broken = False


class InFile(Kept):
    why = "No such file or directory"

    def __init__(self, folder, monkeypatch):
        super().__init__(f"journal:{folder}/mount/study.log")
        self._mount = folder / "mount"

    def __setattr__(self, name, value):
        if name == "broken" and value:
            self._mount.rename(self._mount.with_name("unmounted"))
        elif name == "broken" and getattr(self, "broken", False):
            self._mount.with_name("unmounted").rename(self._mount)
        super().__setattr__(name, value)


class InPostgres(Kept):
    """SQLite in PostgreSQL's place, behind Optuna's own storage."""

    why = "server closed the connection"

    def __init__(self, folder, monkeypatch):
        super().__init__(SECRET)
        self._file = folder / "study.db"
        monkeypatch.setattr(storage, "in_database", self._opened)

    def _opened(self, url):
        assert url == SECRET
        if self.broken:
            raise StorageInternalError("no route to host")
        opened = in_database(f"sqlite:///{self._file}")
        event.listen(opened.engine, "before_cursor_execute", self._refuse)
        return opened

    def _refuse(self, *about):
        if self.broken:
            raise OperationalError("SELECT", {}, Exception("server closed the connection"))


class InRedis(Kept):
    why = "Connection refused"

    def __init__(self, folder, monkeypatch):
        self._server = RedisServer()
        super().__init__("redis://host:6379/0")
        package = SimpleNamespace(Redis=self._server)
        monkeypatch.setattr(storage, "find_spec", lambda name: name == "redis")
        monkeypatch.setattr(storage, "import_module", lambda name: SimpleNamespace(RedisError=RedisError))
        monkeypatch.setattr("optuna.storages.journal._redis.redis", package, raising=False)
        monkeypatch.setattr("optuna.storages.journal._redis._imports", SimpleNamespace(check=lambda: None))

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        self._server.broken = getattr(self, "broken", False)


@pytest.fixture(params=[InFile, InPostgres, InRedis])
def kept(request, tmp_path, monkeypatch):
    return request.param(tmp_path, monkeypatch)


def searching(run, kept, slept):
    """Begin or go on with a search whose study is kept there; return (session, study)."""
    plan = replace(tiny_plan(run.path.parent), out=run.path)
    stored = RunStorage.of(run.path, "tiny", kept.places)
    study = AskTell.at(stored, run.path, plan.space, 0)
    return SearchSession(plan, study, run, fake_costs, Heard(), sleep=slept), study


@pytest.fixture
def runs(tmp_path):
    """Return two run directories of one name."""
    found = [RunDirectory(tmp_path / each / "run") for each in "ab"]
    for run in found:
        run.path.mkdir(parents=True)
    return found


def test_a_name_in_use_is_never_taken_over(kept, runs):
    first, second = runs
    session, _ = searching(first, kept, Slept())
    assert session.next_trial().number == 0
    if isinstance(kept, InFile):  # a journal is one run's: said before anything is written to it
        with pytest.raises(UsageError, match="another run's study"):
            searching(second, kept, Slept())
        return
    other, study = searching(second, kept, Slept())
    assert (other.next_trial().number, len(study.running())) == (0, 1)
    _, study = searching(first, kept, Slept())
    assert [asked.number for asked in study.running()] == [0]


def test_a_study_out_of_reach_is_waited_for_then_the_search_stops_and_loses_nothing(kept, runs):
    run, slept = runs[0], Slept()
    session, _ = searching(run, kept, slept)
    first, second = session.next_trial().number, session.next_trial().number
    session.on_epoch(result_of(first, 1))
    session.on_epoch(result_of(second, 1))
    kept.broken = True
    with pytest.raises(StorageError, match="Nothing that was recorded is lost") as stopped:
        session.on_end(first, result_of(first, 2, accuracy=0.7))
    assert slept == list(WAITS_S)
    assert kept.why in str(stopped.value)
    kept.broken = False
    session, study = searching(run, kept, slept)
    assert [(trial.number, trial.state) for trial in run.trials()] == [(first, "COMPLETE")]
    again = session.next_trial()
    assert (again.number, again.recorded_epochs) == (second, 1)
    assert [asked.number for asked in study.running()] == [second]
    session.on_end(second, result_of(second, 2))
    assert session.next_trial().number not in (first, second)


def test_a_study_that_is_back_in_time_is_gone_on_with(kept, runs):
    def come_back(seconds):
        kept.broken = False

    session, study = searching(runs[0], kept, come_back)
    first = session.next_trial().number
    kept.broken = True
    session.on_end(first, result_of(first, 2))
    assert not kept.broken
    assert study.running() == []
    kept.broken = True
    assert session.next_trial() is not None


def test_a_connection_that_is_lost_between_two_entries_is_told_as_optuna_tells_it():
    class Backend(BaseJournalBackend):
        def read_logs(self, log_number_from):
            yield {}
            raise RedisError("Connection reset")

        def append_logs(self, logs):
            raise AssertionError

    with pytest.raises(StorageInternalError, match="Connection reset"):
        Translating(Backend(), (RedisError,)).read_logs(0)


def test_what_is_given_up_says_how_long_it_was_tried():
    now = [100.0]

    def wait(seconds):
        now[0] += seconds

    def refuse():
        now[0] += 10  # until the connection times out
        raise OSError(errno.ETIMEDOUT, "timed out")

    patiently = Patience("redis://host", mend=lambda: None, sleep=wait, clock=lambda: now[0])
    with pytest.raises(
        StorageError, match=r"redis://host can't be reached: .*timed out\. It was tried 7 times in 100 s"
    ):
        patiently(refuse)


def test_a_run_tells_where_its_checkpoints_are_without_its_password(tmp_path):
    stored = RunStorage.of(tmp_path / "run", "thesis", Places(study=SECRET, checkpoints="/shared"))
    found = RunStorage.checkpoints_of(tmp_path / "run").of_trial(7)
    assert str(found) == f"/shared/{stored.name}/00007.pt"
    own = RunStorage.checkpoints_of(tmp_path / "other").of_trial(7)
    assert own == tmp_path / "other" / "checkpoints" / "00007.pt"


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
        checkpoint_store.filesystem_of("s3://[/a")
