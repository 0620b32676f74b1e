"""Builds that are killed, in processes of their own."""

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures_on_disk import Memory, encoded, memory_source

from hkbench.data import build as build_module
from hkbench.data import writer
from hkbench.data.build import build_store, build_stores
from hkbench.data.source import Source
from hkbench.data.store import built_stores
from hkbench.data.writer import PictureMaker

TOTAL = 120
BAD = 50
BLOCK = 16
CONTENTS = [encoded(index, (9, 9)) if index != BAD else b"no picture" for index in range(TOTAL)]


class Killing(Memory):
    """Kills its process when it is asked for one picture and all blocks before are noted."""

    def __init__(self, at: int, cache: Path) -> None:
        super().__init__(CONTENTS)
        self.at, self.cache = at, cache

    def __call__(self, index: int) -> bytes:
        if index == self.at:
            while any(lines <= index // BLOCK for lines in self.noted()):
                os.sched_yield()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(index)

    def noted(self) -> list[int]:
        journals = list(self.cache.rglob("pictures.npy.blocks"))
        return [len(journal.read_text().splitlines()) for journal in journals]


class Counting(Memory):
    """Notes which pictures were asked for; copies share the note."""

    def __init__(self) -> None:
        super().__init__(CONTENTS)
        self.asked: list[int] = []

    def __call__(self, index: int) -> bytes:
        self.asked.append(index)
        return super().__call__(index)


def reading(read: Any) -> Source:
    source = memory_source(CONTENTS)
    return Source(
        name=source.name,
        classes=source.classes,
        ids=source.ids,
        labels=source.labels,
        groups=source.groups,
        fingerprint=source.fingerprint,
        read=read,
    )


def kill_me(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def build_until(moment: str, cache: Path) -> None:
    """Build and be killed at a moment: a picture's number, or the step of the end that is about to begin."""
    read: Memory = Memory(CONTENTS)
    if moment.isdigit():
        read = Killing(int(moment), cache)
    elif moment == "compaction":
        writer._copy_rows = kill_me
    elif moment == "between its renames":
        writer.remove_blocks = lambda path: None
        replace = Path.replace

        def replace_or_die(self: Path, target: Path) -> Path:
            if self.name == "good.npy":
                kill_me()
            return replace(self, target)

        Path.replace = replace_or_die  # type: ignore[assignment,method-assign]
    elif moment == "rename":
        write_rest = build_module._write_rest

        def write_and_die(*arguments: Any) -> None:
            write_rest(*arguments)
            kill_me()

        build_module._write_rest = write_and_die
    build_stores(reading(read), (8, 16), cache=cache, workers=1)


def killed(moment: str, cache: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=build_until, args=(moment, cache))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("moment", "most_read"),
    [
        ("0", TOTAL),
        ("70", TOTAL - 4 * BLOCK),
        ("compaction", 0),
        ("between its renames", TOTAL),
        ("rename", TOTAL),
    ],
)
def test_a_build_goes_on_after_a_kill_and_equals_an_unbroken_one(
    tmp_path: Path, moment: str, most_read: int
) -> None:
    cache = tmp_path / "killed"
    killed(moment, cache)
    counting = Counting()
    assert not built_stores(reading(counting), cache)
    resumed = build_stores(reading(counting), (8, 16), cache=cache)
    assert len(counting.asked) <= most_read
    for size, store in resumed.items():
        unbroken = build_store(reading(Memory(CONTENTS)), size, cache=tmp_path / "unbroken")
        for file in ("pictures.npy", "pictures.npy.blocks", "labels.npy", "names.json", "store.json"):
            assert (store.path / file).read_bytes() == (unbroken.path / file).read_bytes()
        assert np.array_equal(store.pictures, unbroken.pictures)
    assert not [path for path in cache.rglob("*") if path.suffix == ".part"]


def build_with_process_pool(cache: Path, pids: Any) -> None:
    writer.PROCESSES_FROM = 0
    build_store(reading(Hanging(pids)), 8, cache=cache, workers=1)


class Hanging(Memory):
    """Tells its process' id and never comes back."""

    def __init__(self, pids: Any) -> None:
        super().__init__(CONTENTS)
        self.pids = pids

    def __call__(self, index: int) -> bytes:
        self.pids.send(os.getpid())
        signal.pause()
        return b""


def test_decoding_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    import psutil

    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=build_with_process_pool, args=(tmp_path, sender))
    process.start()
    assert receiver.poll(60)
    worker = psutil.Process(receiver.recv())
    process.kill()
    process.join(60)
    psutil.wait_procs([worker], timeout=60)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_a_torn_line_of_the_bad_pictures_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "8px.part"
    maker = PictureMaker(folder, TOTAL, 8)
    checksum = maker.sink.put(0, np.ones((16, 3, 8, 8), dtype=np.uint8))
    maker.note(0, checksum, {3: "torn apart"})
    with (folder / "rejected.jsonl").open("a") as file:
        file.write('{"block": 1, "bad": {"1')
    again = PictureMaker(folder, TOTAL, 8)
    assert again.bad == {3: "torn apart"}
    assert 0 not in again.missing
