"""What is made ahead: once, resumable after a kill, found when it is damaged, refused on a full disk."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from hkbench.errors import HkbenchError, UsageError
from hkbench.store import blocks, journal
from hkbench.training.ahead import ahead_path, make_ahead, open_ahead

SHAPE = (3, 50, 4)


def values(views, positions):
    return (views * 50 + positions)[:, None] * np.ones(4, dtype=np.float32)


EXPECTED = values(*np.divmod(np.arange(150), 50)).reshape(SHAPE)


def make(path, seen=None, compute=values):
    def counted(views, positions):
        if seen is not None:
            seen.extend((views * 50 + positions).tolist())
        return compute(views, positions)

    return make_ahead(path, SHAPE, "float16", counted, workers=2, rows_a_block=16)


def test_it_is_made_once_and_mapped():
    path = ahead_path("logits", "teacher", "data")
    told = []
    made = make_ahead(
        path, SHAPE, "float16", values, workers=2, rows_a_block=16, advance=lambda *now: told.append(now)
    )
    assert made
    assert told[-1] == (150, 150)
    assert not make(path, compute=None), "there already"
    found = open_ahead(path, 3)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, EXPECTED)
    assert isinstance(found.base, np.memmap)


def test_another_dependency_makes_another_file():
    assert ahead_path("logits", "a") != ahead_path("logits", "b") != ahead_path("features", "b")


KILLED = """
    import sys, time
    from pathlib import Path
    import numpy as np
    from hkbench.training.ahead import make_ahead

    def slow(views, positions):
        if positions[0] >= {stop}:
            print("stopped", flush=True)
            time.sleep(600)
        return (views * 50 + positions)[:, None] * np.ones(4, dtype=np.float32)

    make_ahead(Path(sys.argv[1]), (3, 50, 4), "float16", slow, workers=1, rows_a_block=16)
"""


@pytest.mark.parametrize("stop", [0, 16, 48])
def test_a_kill_costs_the_blocks_that_were_under_way(tmp_path, stop):
    path = tmp_path / "logits" / "a.npy"
    script = textwrap.dedent(KILLED.format(stop=stop))
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"stopped\n"
        process.send_signal(signal.SIGKILL)
    with pytest.raises(HkbenchError, match="missing or damaged"):
        open_ahead(path, 3)
    seen = []
    assert make(path, seen)
    assert sorted(seen) == list(range(stop, 150)), "what was written is not made again"
    np.testing.assert_array_equal(open_ahead(path, 3), EXPECTED)


def test_a_kill_between_the_last_block_and_the_rename_costs_nothing(tmp_path):
    path = tmp_path / "a.npy"
    make(path)
    path.rename(journal.part_of(path))
    seen = []
    assert make(path, seen)
    assert seen == []
    np.testing.assert_array_equal(open_ahead(path, 3), EXPECTED)


@pytest.mark.parametrize("harm", ["flip", "cut", "grow", "no checksums", "torn checksums"])
def test_damage_is_found_mended_and_said(tmp_path, caplog, harm):
    path = tmp_path / "a.npy"
    make(path)
    content = path.read_bytes()
    checksums = journal.journal_of(path)
    if harm == "flip":
        at = len(content) // 2
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
    elif harm == "cut":
        path.write_bytes(content[:-100])
    elif harm == "grow":
        path.write_bytes(content + b"more")
    elif harm == "no checksums":
        checksums.unlink()
    else:
        checksums.write_bytes(checksums.read_bytes()[:-9])
    assert make(path)
    assert "is damaged" in caplog.text
    np.testing.assert_array_equal(open_ahead(path, 3), EXPECTED)
    assert not make(path, compute=None)


def test_a_flipped_byte_costs_its_block_alone(tmp_path):
    path = tmp_path / "a.npy"
    make(path)
    with path.open("r+b") as file:
        file.seek(128 + 20 * 8)
        file.write(b"\xff\xff")
    seen = []
    assert make(path, seen)
    assert seen == list(range(16, 32))


def test_a_reader_sees_a_damaged_end(tmp_path):
    path = tmp_path / "a.npy"
    make(path)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    with pytest.raises(HkbenchError, match="another checksum"):
        open_ahead(path, 3)


def test_a_full_disk_keeps_what_was_written(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    real, calls = os.pwrite, []

    def full(file, content, at):
        calls.append(at)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, content, at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UsageError, match="No room on the disk"):
        make(path)
    monkeypatch.undo()
    seen = []
    assert make(path, seen)
    assert len(seen) == 150 - 3 * 16
    np.testing.assert_array_equal(open_ahead(path, 3), EXPECTED)


def test_too_little_room_is_said_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(
        blocks.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100, "total": 0, "used": 0})
    )
    seen = []
    with pytest.raises(UsageError, match="data prune"):
        make(tmp_path / "a.npy", seen)
    assert seen == []


def test_two_that_want_the_same_make_it_once(tmp_path):
    seen, answers = [], []
    threads = [
        threading.Thread(target=lambda: answers.append(make(tmp_path / "a.npy", seen))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False, True]
    assert sorted(seen) == list(range(150))
