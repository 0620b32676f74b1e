import errno
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hkbench.errors import HkbenchError, UsageError
from hkbench.store import blocks
from hkbench.store.blocks import BlockMaker, damage, fill_in_threads, make_once, open_blocks, remove_blocks
from hkbench.store.journal import Layout, journal_of, part_of

LAYOUT = Layout(shape=(50, 3, 4), dtype="float16", block_rows=8)
VALUES = np.random.default_rng(0).normal(size=LAYOUT.shape).astype(np.float16)


class Fill:
    """Writes blocks of VALUES and notes which; stops before one of them, by an error or a kill."""

    def __init__(self, stop: Callable[[], None] | None = None, before: int = -1) -> None:
        self.stop, self.before = stop, before
        self.made: list[int] = []

    def __call__(self, maker: BlockMaker) -> None:
        for block in maker.missing:
            if block == self.before and self.stop is not None:
                self.stop()
            rows = maker.layout.rows(block)
            maker.write(block, VALUES[rows.start : rows.stop])
            self.made.append(block)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "array.npy"


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def fail() -> None:
    raise RuntimeError("stopped")


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def make_and_die(path: Path, before: int) -> None:
    make_once(path, LAYOUT, Fill(kill_me, before))


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "int64"])
@pytest.mark.parametrize("shape", [(1,), (9, 2), (16, 3, 5), (17, 1, 1, 1)])
def test_what_was_written_is_mapped_and_is_a_npy_file(path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    layout = Layout(shape=shape, dtype=dtype, block_rows=8)

    def fill(maker: BlockMaker) -> None:
        for block in reversed(maker.missing):
            rows = layout.rows(block)
            maker.write(block, values[rows.start : rows.stop])

    assert make_once(path, layout, fill)
    for found in (open_blocks(path), np.load(path)):
        assert found.dtype == values.dtype
        assert np.array_equal(found, values)
    assert damage(path, layout) == ""
    assert not part_of(path).exists()


def test_an_array_is_made_once(path: Path) -> None:
    assert make_once(path, LAYOUT, Fill())
    assert not make_once(path, LAYOUT, lambda maker: pytest.fail("made again"))


def test_readers_map_read_only(path: Path) -> None:
    make_once(path, LAYOUT, Fill())
    with pytest.raises(ValueError, match="read-only"):
        open_blocks(path)[0] = 0


@pytest.mark.parametrize("before", [0, 3, 6])
def test_a_kill_costs_no_block_that_was_done(path: Path, before: int) -> None:
    process = multiprocessing.get_context("spawn").Process(target=make_and_die, args=(path, before))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(HkbenchError, match="missing or damaged"):
        open_blocks(path)
    fill = Fill()
    assert make_once(path, LAYOUT, fill)
    assert fill.made == list(range(before, LAYOUT.blocks))
    assert np.array_equal(open_blocks(path), VALUES)


def test_a_torn_line_costs_one_block(path: Path) -> None:
    with pytest.raises(RuntimeError):
        make_once(path, LAYOUT, Fill(fail, before=4))
    journal = journal_of(path)
    journal.write_bytes(journal.read_bytes()[:-8])
    fill = Fill()
    make_once(path, LAYOUT, fill)
    assert fill.made == [3, 4, 5, 6]
    assert np.array_equal(open_blocks(path), VALUES)


def test_a_block_that_was_noted_but_never_reached_the_disk_is_made_again(path: Path) -> None:
    with pytest.raises(RuntimeError):
        make_once(path, LAYOUT, Fill(fail, before=4))
    flip(part_of(path), len(LAYOUT.header()) + 2 * 8 * LAYOUT.row_bytes)
    fill = Fill()
    make_once(path, LAYOUT, fill)
    assert fill.made == [2, 4, 5, 6]
    assert np.array_equal(open_blocks(path), VALUES)


@pytest.mark.parametrize("block", [0, 3, 6])
def test_a_flipped_bit_is_found_and_only_its_block_made_again(
    path: Path, block: int, caplog: pytest.LogCaptureFixture
) -> None:
    make_once(path, LAYOUT, Fill())
    flip(path, len(LAYOUT.header()) + block * 8 * LAYOUT.row_bytes + 5)
    assert "1 of 7 blocks" in damage(path, LAYOUT)
    fill = Fill()
    assert make_once(path, LAYOUT, fill)
    assert fill.made == [block]
    assert "is damaged" in caplog.text
    assert np.array_equal(open_blocks(path), VALUES)


@pytest.mark.parametrize("what", ["cut", "longer", "empty", "header", "gone"])
def test_a_file_of_another_form_is_found_and_made_again(path: Path, what: str) -> None:
    make_once(path, LAYOUT, Fill())
    whole = path.read_bytes()
    if what == "gone":
        path.unlink()
    else:
        broken = {"cut": whole[:-1], "longer": whole + b"0", "empty": b"", "header": b"x" + whole[1:]}
        path.write_bytes(broken[what])
    with pytest.raises(HkbenchError, match="missing or damaged"):
        open_blocks(path)
    assert make_once(path, LAYOUT, Fill())
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "journal",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"shape": [], "dtype": "uint8", "block_rows": 1}',
        b'{"shape": [5], "dtype": "no such", "block_rows": 1}',
        b'{"shape": [5], "dtype": "uint8", "block_rows": 0}',
        b'{"shape": [Infinity], "dtype": "uint8", "block_rows": 1}',
        b'{"shape": [50, 3, 4], "dtype": "float16", "block_rows": 8}\n[]\n{"block": Infinity, "crc32": 1}',
    ],
)
def test_a_damaged_journal_is_found_and_made_again(path: Path, journal: bytes) -> None:
    make_once(path, LAYOUT, Fill())
    journal_of(path).write_bytes(journal)
    with pytest.raises(HkbenchError, match="missing or damaged"):
        open_blocks(path)
    assert damage(path, LAYOUT)
    assert make_once(path, LAYOUT, Fill())
    assert np.array_equal(open_blocks(path), VALUES)


def test_another_layout_is_made_anew(path: Path) -> None:
    make_once(path, LAYOUT, Fill())
    other = Layout(shape=LAYOUT.shape, dtype="float16", block_rows=25)
    fill = Fill()
    assert make_once(path, other, fill)
    assert fill.made == [0, 1]
    assert damage(path, other) == ""


def test_the_journal_doesn_t_depend_on_which_block_was_done_first(path: Path, tmp_path: Path) -> None:
    def backwards(maker: BlockMaker) -> None:
        maker.missing.reverse()
        Fill()(maker)

    make_once(path, LAYOUT, Fill())
    make_once(tmp_path / "other.npy", LAYOUT, backwards)
    assert journal_of(path).read_bytes() == journal_of(tmp_path / "other.npy").read_bytes()


def test_a_block_that_was_forgotten_is_told(path: Path) -> None:
    with pytest.raises(ValueError, match="7 blocks"):
        make_once(path, LAYOUT, lambda maker: None)
    assert not path.exists()


def test_values_of_another_shape_are_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="block 6"):
        make_once(path, LAYOUT, lambda maker: maker.write(6, VALUES[:8]))


def test_a_sink_can_be_sent_to_another_process(path: Path) -> None:
    def fill(maker: BlockMaker) -> None:
        sink = pickle.loads(pickle.dumps(maker.sink))
        for block in maker.missing:
            rows = sink.layout.rows(block)
            maker.note(block, sink.put(block, VALUES[rows.start : rows.stop]))

    make_once(path, LAYOUT, fill)
    assert np.array_equal(open_blocks(path), VALUES)


def test_threads_write_all_blocks_and_tell_how_far_they_are(path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def fill(maker: BlockMaker) -> None:
        fill_in_threads(
            maker,
            lambda rows: VALUES[rows.start : rows.stop],
            workers=4,
            advance=lambda done, total: seen.append((done, total)),
        )

    make_once(path, LAYOUT, fill)
    assert np.array_equal(open_blocks(path), VALUES)
    assert seen[-1] == (50, 50)
    assert seen == sorted(seen)


def test_a_full_disk_is_told_and_what_was_written_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite
    written = []

    def until_full(file: int, content: Any, at: int) -> int:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(at)
        return write(file, content, at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", until_full)
        with pytest.raises(UsageError, match="No room on the disk"):
            make_once(path, LAYOUT, Fill())
    fill = Fill()
    make_once(path, LAYOUT, fill)
    assert fill.made == [2, 3, 4, 5, 6]


def test_an_array_that_can_t_fit_is_refused_before_anything_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = Layout(shape=(1 << 50,), dtype="uint8", block_rows=1 << 45)
    with pytest.raises(UsageError, match=r"GB free.*hkbench data prune"):
        make_once(path, huge, Fill())
    assert not part_of(path).exists()


def test_of_a_large_file_a_part_is_verified(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_once(path, LAYOUT, Fill())
    monkeypatch.setattr(blocks, "VERIFIED_BYTES", 0)
    flip(path, len(LAYOUT.header()) + 5)
    assert "1 of 7" in damage(path, LAYOUT)


def make_and_count(path: Path, results: Any) -> None:
    fill = Fill()
    make_once(path, LAYOUT, fill)
    results.put((len(fill.made), float(open_blocks(path).astype(np.float64).sum())))


def test_of_two_processes_one_makes_the_array(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    both = [context.Process(target=make_and_count, args=(path, results)) for _ in range(2)]
    for process in both:
        process.start()
    found = [results.get(timeout=60) for _ in both]
    for process in both:
        process.join(60)
    assert sorted(made for made, _ in found) == [0, 7]
    assert found[0][1] == found[1][1]


def test_an_array_is_removed_with_its_checksums(path: Path) -> None:
    make_once(path, LAYOUT, Fill())
    remove_blocks(path)
    assert not path.exists()
    assert not journal_of(path).exists()
