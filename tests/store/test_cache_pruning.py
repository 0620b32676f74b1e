import os
from pathlib import Path

import pytest
from filelock import FileLock

from hkbench.errors import UsageError
from hkbench.store.cache import entries, parse_age, parse_bytes, prune, touch

NOW = 2_000_000_000.0
HOUR, DAY = 3_600.0, 86_400.0


def put(cache: Path, name: str, age: float, size: int = 8_192) -> Path:
    """Write one file of the cache, last used so long before NOW."""
    path = cache / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))
    os.utime(path, (NOW - age, NOW - age))
    return path


def put_store(cache: Path, name: str, age: float) -> Path:
    folder = put(cache, f"pictures/data/{name}/store.json", age).parent
    put(cache, f"pictures/data/{name}/pictures.npy", age)
    os.utime(folder, (NOW - age, NOW - age))
    return folder


def names(found: object) -> list[str]:
    return [entry.path.name for entry in found]  # type: ignore[attr-defined]


def test_entries_are_found_with_kind_size_and_last_use(tmp_path: Path) -> None:
    put_store(tmp_path, "64px-a", 3 * DAY)
    put(tmp_path, "logits/b.npy", 2 * DAY)
    put(tmp_path, "logits/b.npy.blocks", 5 * DAY, 4_096)
    put(tmp_path, "weights/brought.safetensors", 90 * DAY)
    put(tmp_path, "pictures/data/split-random-69.json", 90 * DAY)
    store, logits = entries(tmp_path)
    assert (store.kind, store.path.name, store.used) == ("pictures", "64px-a", NOW - 3 * DAY)
    assert (logits.kind, logits.path.name, logits.used) == ("logits", "b.npy", NOW - 2 * DAY)
    assert logits.size_bytes == 8_192 + 4_096


def test_what_wasn_t_used_for_long_goes_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    old, new = put_store(tmp_path, "64px-a", 40 * DAY), put_store(tmp_path, "96px-b", 2 * DAY)
    logits, journal = (put(tmp_path, f"logits/{name}", 40 * DAY) for name in ("a.npy", "a.npy.blocks"))
    brought = put(tmp_path, "weights/brought.safetensors", 90 * DAY)
    done = prune(tmp_path, older_than_s=30 * DAY, now=NOW)
    assert sorted(names(done.removed)) == ["64px-a", "a.npy"]
    assert names(done.kept) == ["96px-b"]
    assert not any(path.exists() for path in (old, logits, journal))
    assert new.exists()
    assert brought.exists()


def test_use_keeps_an_entry(tmp_path: Path) -> None:
    store = put_store(tmp_path, "64px-a", 40 * DAY)
    logits = put(tmp_path, "logits/a.npy", 40 * DAY)
    touch(store)
    touch(logits)
    touch(tmp_path / "nowhere" / "else")
    assert not prune(tmp_path, older_than_s=DAY, now=max(e.used for e in entries(tmp_path)) + 1.0).removed
    assert store.exists()
    assert logits.exists()


def test_the_least_recently_used_go_until_the_size_is_kept(tmp_path: Path) -> None:
    for name, age in (("a", 5), ("b", 9), ("c", 2)):
        put(tmp_path, f"logits/{name}.npy", age * DAY)
    done = prune(tmp_path, max_bytes=10_000, now=NOW)
    assert names(done.removed) == ["b.npy", "a.npy"]
    assert names(entries(tmp_path)) == ["c.npy"]


def test_teachers_go_last(tmp_path: Path) -> None:
    put(tmp_path, "teachers/old/model.safetensors", 50 * DAY)
    os.utime(tmp_path / "teachers/old", (NOW - 50 * DAY,) * 2)
    put(tmp_path, "views/new.npy", 2 * DAY)
    assert names(prune(tmp_path, max_bytes=14_000, now=NOW, dry_run=True).removed) == ["new.npy"]
    assert sorted(names(prune(tmp_path, max_bytes=0, now=NOW, dry_run=True).removed)) == ["new.npy", "old"]
    assert names(prune(tmp_path, older_than_s=30 * DAY, now=NOW).removed) == ["old"]


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    lately = put(tmp_path, "logits/lately.npy", 0.9 * HOUR)
    made = put(tmp_path, "logits/made.npy", 2 * HOUR)
    free = put(tmp_path, "logits/free.npy", 2 * HOUR)
    put(tmp_path, "logits/free.npy.lock", 2 * HOUR, 0)
    with FileLock(f"{made}.lock"):
        done = prune(tmp_path, max_bytes=0, now=NOW)
    assert names(done.removed) == ["free.npy"]
    assert lately.exists()
    assert made.exists()
    assert not free.exists()


def test_leftovers_go_after_a_day(tmp_path: Path) -> None:
    for name, age in (
        ("logits/a.npy.part", 2 * DAY),
        ("logits/a.npy.blocks", 2 * DAY),
        ("views/.x.tmp", 2 * DAY),
    ):
        put(tmp_path, name, age)
    young = put(tmp_path, "logits/b.npy.part", 0.5 * DAY)
    killed = put_store(tmp_path, "64px-a.part", 2 * DAY)
    done = prune(tmp_path, older_than_s=365 * DAY, now=NOW)
    assert sorted(names(done.removed)) == [".x.tmp", "64px-a.part", "a.npy.part"]
    assert [path.name for path in (tmp_path / "logits").iterdir()] == [young.name]
    assert not killed.exists()
    assert not prune(tmp_path, max_bytes=0, now=NOW).removed


def test_a_dry_run_removes_nothing(tmp_path: Path) -> None:
    path = put(tmp_path, "logits/a.npy", 2 * DAY)
    assert names(prune(tmp_path, max_bytes=0, now=NOW, dry_run=True).removed) == ["a.npy"]
    assert path.exists()


def test_ages_and_sizes_are_parsed() -> None:
    assert [parse_age(text) for text in ("90m", "12h", "1.5d", "2 w")] == [5_400, 43_200, 129_600, 1_209_600]
    assert [parse_bytes(text) for text in ("500MB", "1.5 GB", "2TB")] == [
        500_000_000,
        1_500_000_000,
        2 * 10**12,
    ]


@pytest.mark.parametrize("text", ["", "30", "-3d", "d", "3 days", "1e3d", "nan d", "30D"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="such as 30d"):
        parse_age(text)


@pytest.mark.parametrize("text", ["", "20", "-1GB", "GB", "20gb", "20GiB", "²GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="such as 20GB"):
        parse_bytes(text)
