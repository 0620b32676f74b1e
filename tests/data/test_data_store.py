import errno
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures_on_disk import CLASSES, Memory, class_folders, encoded, memory_source, write_parquet

from hkbench.data import writer
from hkbench.data.build import build_store, build_stores, parse_sizes
from hkbench.data.decode import decode
from hkbench.data.parquet import open_parquet
from hkbench.data.source import Source
from hkbench.data.sources import open_source
from hkbench.data.store import built_stores, open_store, store_path
from hkbench.errors import HkbenchError, UsageError

GOOD = [encoded(index) for index in range(24)]


class Dying(Memory):
    """Ends the process that decodes the first picture, as the kernel does when memory runs out."""

    def __call__(self, index: int) -> bytes:
        if index == 0:
            os._exit(9)
        return super().__call__(index)


class Counting(Memory):
    """Notes which pictures were asked for; copies share the note."""

    def __init__(self, contents: list[bytes]) -> None:
        super().__init__(contents)
        self.asked: list[int] = []

    def __call__(self, index: int) -> bytes:
        self.asked.append(index)
        return super().__call__(index)


def replaced(source: Source, **fields: object) -> Source:
    names = ("name", "classes", "ids", "labels", "groups", "fingerprint", "read")
    return Source(**({name: getattr(source, name) for name in names} | fields))


def leftovers(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.suffix in (".part", ".tmp") or path.name == "good.npy"]


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes decode, as for a large source."""
    monkeypatch.setattr(writer, "PROCESSES_FROM", 0)


def test_pictures_are_decoded_in_the_order_of_the_source(tmp_path: Path) -> None:
    source = memory_source(GOOD)
    store = build_store(source, 16, cache=tmp_path)
    assert store.pictures.shape == (24, 3, 16, 16)
    assert store.pictures.dtype == np.uint8
    assert all(np.array_equal(store.pictures[i], decode(GOOD[i], 16)) for i in range(24))
    assert store.ids == source.ids
    assert store.groups == source.groups
    assert store.classes == CLASSES
    assert store.labels.tolist() == source.labels.tolist()
    assert (store.size, store.rejected, store.fingerprint) == (16, (), source.fingerprint)


def test_threads_and_processes_make_the_same_store_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [encoded(index, (9, 9)) for index in range(150)]
    contents[70] = b"no picture"
    source = memory_source(contents)
    seen: list[tuple[int, int]] = []
    one = build_store(source, 8, cache=tmp_path / "one", workers=1)
    threads = build_store(
        source, 8, cache=tmp_path / "two", workers=2, advance=lambda done, total: seen.append((done, total))
    )
    monkeypatch.setattr(writer, "PROCESSES_FROM", 0)
    processes = build_store(source, 8, cache=tmp_path / "three", workers=2)
    for other in (threads, processes):
        assert np.array_equal(one.pictures, other.pictures)
        assert (one.ids, one.rejected) == (other.ids, other.rejected)
    assert seen == sorted(seen)
    assert seen[-1] == (150, 150)
    assert len(seen) > 3


def test_a_reader_of_row_groups_is_read_from_all_threads(tmp_path: Path) -> None:
    write_parquet(tmp_path / "pictures.parquet", per_class=60, rows_per_group=7)
    source = open_parquet(tmp_path / "pictures.parquet", "shop")
    many = build_store(source, 8, cache=tmp_path / "many", workers=8)
    assert all(np.array_equal(many.pictures[i], decode(source.read(i), 8)) for i in range(180))


def test_sizes_built_together_have_the_pixels_of_each_alone(tmp_path: Path) -> None:
    sizes = (8, 16, 60, 90)
    contents = [
        encoded(index, (400 - index, 250 + index), ("JPEG", "PNG", "WEBP")[index % 3]) for index in range(12)
    ]
    source = memory_source(contents)
    seen: list[int] = []
    together = build_stores(
        source, sizes[::-1], cache=tmp_path / "all", advance=lambda done, total: seen.append(done)
    )
    assert tuple(together) == sizes
    assert seen == [12]
    for size in sizes:
        alone = build_store(source, size, cache=tmp_path / "one")
        assert np.array_equal(alone.pictures, together[size].pictures)


def test_pictures_are_read_once_for_all_sizes(tmp_path: Path) -> None:
    source = memory_source(GOOD)
    counting = Counting(GOOD)
    build_stores(replaced(source, read=counting), (8, 16, 32), cache=tmp_path, workers=1)
    assert sorted(counting.asked) == list(range(24))


def test_only_missing_sizes_are_built(tmp_path: Path) -> None:
    source = memory_source(GOOD)
    first = build_store(source, 8, cache=tmp_path)
    made = (first.path / "pictures.npy").stat().st_mtime_ns
    both = build_stores(source, (8, 16), cache=tmp_path)
    assert {size: store.size for size, store in both.items()} == {8: 8, 16: 16}
    assert (first.path / "pictures.npy").stat().st_mtime_ns == made


def test_a_store_is_built_once(tmp_path: Path) -> None:
    first = build_store(memory_source(GOOD), 8, cache=tmp_path)
    made = (first.path / "pictures.npy").stat().st_mtime_ns
    again = build_store(
        memory_source(GOOD), 8, cache=tmp_path, advance=lambda *_: pytest.fail("decoded again")
    )
    assert again.key == first.key
    assert (again.path / "pictures.npy").stat().st_mtime_ns == made


def test_size_content_and_groups_make_another_store(tmp_path: Path) -> None:
    source = memory_source(GOOD)
    paths = {
        store_path(source, 8, tmp_path),
        store_path(source, 16, tmp_path),
        store_path(memory_source(GOOD[::-1]), 8, tmp_path),
        store_path(replaced(source, groups=None), 8, tmp_path),
    }
    assert len(paths) == 4


def test_a_changed_picture_is_decoded_again(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "shop")
    before = build_store(open_source(str(folder)), 8, cache=tmp_path / "cache")
    (folder / "chair" / "product0_0.png").write_bytes(encoded(99))
    after = build_store(open_source(str(folder)), 8, cache=tmp_path / "cache")
    assert before.key != after.key
    assert not np.array_equal(before.pictures[0], after.pictures[0])
    assert np.array_equal(before.pictures[1:], after.pictures[1:])


def test_bad_pictures_are_listed_with_their_reason(tmp_path: Path) -> None:
    source = memory_source([*GOOD, b"no picture"])
    store = build_store(source, 8, cache=tmp_path)
    assert len(store.pictures) == len(store.labels) == len(store.ids) == 24
    ((name, reason),) = store.rejected
    assert name == source.ids[24]
    assert "not a picture" in reason
    assert open_store(store.path).rejected == store.rejected


def test_too_many_bad_pictures_fail_the_build_and_leave_nothing(tmp_path: Path) -> None:
    source = memory_source([*GOOD, *[b"no picture"] * 6])
    with pytest.raises(UsageError, match=r"6 of 30 pictures.*5%.*chair/0024.png \(not a.*and 3 more"):
        build_store(source, 8, cache=tmp_path)
    assert not leftovers(tmp_path)
    assert not built_stores(source, tmp_path)


def test_the_limit_holds_for_a_store_that_is_there(tmp_path: Path) -> None:
    source = memory_source([*GOOD, b"no picture"])
    build_store(source, 8, cache=tmp_path)
    with pytest.raises(UsageError, match="1 of 25 pictures"):
        build_store(source, 8, cache=tmp_path, max_rejected=0)


def test_a_class_that_loses_too_many_pictures_is_named(tmp_path: Path) -> None:
    contents = [encoded(index) if index % 3 != 1 or index < 6 else b"no picture" for index in range(12)]
    with pytest.raises(UsageError, match=r"'lamp' has 2 usable.*lamp/0007.png"):
        build_store(memory_source(contents), 8, cache=tmp_path, max_rejected=1)


def test_a_file_that_went_away_is_a_bad_picture(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "shop", per_class=8)
    source = open_source(str(folder))
    (folder / source.ids[3]).unlink()
    store = build_store(source, 8, cache=tmp_path / "cache")
    assert store.rejected == ((source.ids[3], "can't be read: No such file or directory"),)


@pytest.mark.parametrize("size", [0, -64, 5_000])
def test_a_size_out_of_range_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(UsageError, match="8 to 1024 px"):
        build_store(memory_source(GOOD), size, cache=tmp_path)


def test_sizes_are_parsed() -> None:
    assert parse_sizes("96,64,64") == (64, 96)


@pytest.mark.parametrize("text", ["", "64,", "64x64", "64,4"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_sizes(text)


@pytest.mark.parametrize("file", ["pictures.npy", "labels.npy", "store.json"])
@pytest.mark.parametrize("damage", ["cut", "longer", "empty", "gone"])
def test_a_damaged_store_is_found_and_rebuilt(
    tmp_path: Path, file: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = build_store(memory_source(GOOD), 8, cache=tmp_path)
    whole = (store.path / file).read_bytes()
    if damage == "gone":
        (store.path / file).unlink()
    else:
        broken = {"cut": whole[:-10], "longer": whole + b"}", "empty": b""}[damage]
        (store.path / file).write_bytes(broken)
    with pytest.raises(HkbenchError, match="missing or damaged"):
        open_store(store.path)
    rebuilt = build_store(memory_source(GOOD), 8, cache=tmp_path)
    assert "is damaged and is built again" in caplog.text
    assert (rebuilt.path / file).read_bytes() == whole
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "empty", "nonsense"])
def test_damaged_checksums_are_found_and_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = build_store(memory_source(GOOD), 8, cache=tmp_path)
    journal = store.path / "pictures.npy.blocks"
    whole = journal.read_bytes()
    nonsense = b'{"shape": [0, "x"], "dtype": "no", "block_rows": 0}\n[]\n\xff'
    journal.write_bytes({"cut": whole[:-10], "empty": b"", "nonsense": nonsense}[damage])
    with pytest.raises(HkbenchError, match="missing or damaged"):
        open_store(store.path)
    build_store(memory_source(GOOD), 8, cache=tmp_path)
    assert "is damaged and is built again" in caplog.text
    assert journal.read_bytes() == whole


@pytest.mark.parametrize("file", ["pictures.npy", "names.json", "labels.npy"])
@pytest.mark.parametrize("rejected", [0, 1])
def test_a_flipped_bit_in_the_middle_is_found_and_mended(
    tmp_path: Path, file: str, rejected: int, caplog: pytest.LogCaptureFixture
) -> None:
    contents = [encoded(index, (9, 9)) for index in range(80)]
    source = memory_source([*contents[: 80 - rejected], *[b"no picture"] * rejected])
    counting = Counting(source.read.contents)
    store = build_store(source, 8, cache=tmp_path)
    damaged = bytearray(whole := (store.path / file).read_bytes())
    damaged[len(damaged) // 2] ^= 4
    (store.path / file).write_bytes(damaged)
    rebuilt = build_store(replaced(source, read=counting), 8, cache=tmp_path)
    assert "is damaged and is built again" in caplog.text
    assert (rebuilt.path / file).read_bytes() == whole
    assert rebuilt.ids == source.ids[: 80 - rejected]
    assert rejected or len(counting.asked) <= 16  # one block at most


def test_labels_and_names_of_other_pictures_are_damage(tmp_path: Path) -> None:
    store = build_store(memory_source(GOOD), 8, cache=tmp_path)
    other = build_store(memory_source(GOOD[:21]), 8, cache=tmp_path)
    (store.path / "names.json").write_bytes((other.path / "names.json").read_bytes())
    opened = open_store(store.path)
    with pytest.raises(HkbenchError, match="damaged"):
        _ = opened.ids
    (store.path / "labels.npy").write_bytes((other.path / "labels.npy").read_bytes())
    with pytest.raises(HkbenchError, match="damaged"):
        open_store(store.path)


def test_two_processes_at_once_make_one_good_store(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "shop", per_class=60)
    program = (
        "import sys; from pathlib import Path\n"
        "from hkbench.data.sources import open_source; from hkbench.data.build import build_store\n"
        "store = build_store(open_source(sys.argv[1]), 8, cache=Path(sys.argv[2]), workers=1)\n"
        "print(store.pictures.sum())\n"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(folder), str(tmp_path / "cache")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    ended = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert ended[0] == ended[1]
    (store,) = built_stores(open_source(str(folder)), tmp_path / "cache")
    assert int(store.pictures.sum()) == int(ended[0][0])
    assert not leftovers(tmp_path / "cache")


@pytest.mark.parametrize(("workers", "processes_from"), [(1, 1_000), (2, 1_000), (2, 0)])
def test_a_full_disk_is_told_and_the_next_build_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, processes_from: int
) -> None:
    monkeypatch.setattr(writer, "PROCESSES_FROM", processes_from)
    contents = [encoded(index, (9, 9)) for index in range(130)]
    source = memory_source(contents)

    def fill_disk(done: int, total: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(HkbenchError, match="No room on the disk"):
        build_store(source, 8, cache=tmp_path, workers=workers, advance=fill_disk)
    assert not built_stores(source, tmp_path)
    assert not multiprocessing.active_children()
    monkeypatch.setattr(writer, "PROCESSES_FROM", 1_000)
    counting = Counting(contents)
    store = build_store(replaced(source, read=counting), 8, cache=tmp_path)
    assert len(counting.asked) < 130
    assert all(np.array_equal(store.pictures[i], decode(contents[i], 8)) for i in range(130))
    assert not leftovers(tmp_path)


@pytest.mark.usefixtures("processes")
def test_a_decoding_process_that_dies_is_told(tmp_path: Path) -> None:
    contents = [encoded(index, (9, 9)) for index in range(130)]
    source = memory_source(contents)
    with pytest.raises(HkbenchError, match="A process that decodes pictures died"):
        build_store(replaced(source, read=Dying(contents)), 8, cache=tmp_path, workers=2)
    assert not built_stores(source, tmp_path)


def test_pictures_are_read_only(tmp_path: Path) -> None:
    store = build_store(memory_source(GOOD), 8, cache=tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        store.pictures[0] = 0


def test_pickling_sends_the_path_only(tmp_path: Path) -> None:
    store = build_store(memory_source(GOOD), 64, cache=tmp_path)
    sent = pickle.dumps(store)
    assert len(sent) < 1_000
    assert np.array_equal(pickle.loads(sent).pictures, store.pictures)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's account of mapped pages")
def test_opening_reads_no_pictures(tmp_path: Path) -> None:
    path = build_store(memory_source(GOOD), 64, cache=tmp_path).path

    def resident_kb() -> int:
        lines = iter(Path("/proc/self/smaps").read_text().splitlines())
        ours = (line for line in lines if str(path / "pictures.npy") in line)
        return sum(int(next(row for row in lines if row.startswith("Rss:")).split()[1]) for _ in ours)

    store = open_store(path)
    assert resident_kb() == 0
    assert store.pictures.sum() > 0
    assert resident_kb() > 0


def test_no_store_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HkbenchError, match="hkbench data build"):
        open_store(tmp_path / "none")


def test_built_stores_are_found_smallest_first(tmp_path: Path) -> None:
    source = memory_source(GOOD)
    for size in (32, 8, 16):
        build_store(source, size, cache=tmp_path)
    assert [store.size for store in built_stores(source, tmp_path)] == [8, 16, 32]


class Unsteady(Memory):
    """A picture that can't be read once, as over a network that fails for a moment."""

    def __init__(self, contents: list[bytes], error: OSError) -> None:
        super().__init__(contents)
        self.error: OSError | None = error

    def __call__(self, index: int) -> bytes:
        if index == 7 and self.error is not None:
            error, self.error = self.error, None
            raise error
        return super().__call__(index)


def test_an_error_that_may_pass_ends_the_build_and_leaves_nothing_out(tmp_path: Path) -> None:
    source = replaced(memory_source(GOOD), read=Unsteady(GOOD, OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output"):
        build_store(source, 8, cache=tmp_path, workers=1)
    assert build_store(memory_source(GOOD), 8, cache=tmp_path).rejected == ()


def test_a_file_that_is_gone_is_left_out_with_its_reason(tmp_path: Path) -> None:
    gone = Unsteady(GOOD, FileNotFoundError(errno.ENOENT, "No such file or directory"))
    store = build_store(replaced(memory_source(GOOD), read=gone), 8, cache=tmp_path, workers=1)
    assert [reason for _, reason in store.rejected] == ["can't be read: No such file or directory"]


def test_stores_of_two_sizes_with_other_pictures_are_refused(tmp_path: Path) -> None:
    """One split holds for all sizes: a row must be the same picture in each."""
    gone = Unsteady(GOOD, FileNotFoundError(errno.ENOENT, "No such file or directory"))
    build_store(replaced(memory_source(GOOD), read=gone), 8, cache=tmp_path, workers=1)
    build_store(memory_source(GOOD), 16, cache=tmp_path)
    with pytest.raises(HkbenchError, match="don't hold the same pictures"):
        build_stores(memory_source(GOOD), (8, 16), cache=tmp_path)
