"""Opening a built store and teacher logits of 100,000 pictures, without reading them."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claim import Claim, machine, main
from hkbench.data.store import FORMAT, open_store
from hkbench.data.writer import PICTURES, pictures_layout
from hkbench.store.blocks import BlockMaker, make_once, open_blocks
from hkbench.store.journal import Layout
from hkbench.training.logits import BLOCK_ROWS

COUNT, SIZE, CLASSES, VIEWS = 100_000, 64, 69, 20
TARGET_MS = 50.0
PROCESSES, QUICK_PROCESSES = 15, 5


def measure(quick: bool) -> Claim:
    """Open both in new processes and count the bytes that these read."""
    with tempfile.TemporaryDirectory() as folder:
        store, logits = Path(folder) / "store", Path(folder) / "logits.npy"
        write_store(store)
        write_logits(logits)
        opened = [_open_apart(store, logits) for _ in range(QUICK_PROCESSES if quick else PROCESSES)]
        whole = (store / PICTURES).stat().st_size + logits.stat().st_size
    milliseconds = [run["ms"] for run in opened]
    read = max(run["bytes_read"] for run in opened)
    if read > whole / 10:
        raise AssertionError(f"{read} of {whole} bytes were read to open a store and its logits")
    median = statistics.median(milliseconds)
    return Claim(
        name="store_open",
        value=median,
        unit="ms",
        target=f"at most {TARGET_MS:g} ms",
        holds=median <= TARGET_MS,
        details={
            "pictures": COUNT,
            "longest_ms": max(milliseconds),
            "again_ms": statistics.median(run["again_ms"] for run in opened),
            "bytes_read": read,
            "bytes_read_share": read / whole,
            "whole_bytes": whole,
            "views": VIEWS,
            "size_px": SIZE,
            **machine(threads=1),
        },
    )


def write_store(path: Path, count: int = COUNT) -> None:
    """Write a store of black pictures, as `build_store` lays it out."""
    path.mkdir()
    _fill(BlockMaker(path / PICTURES, pictures_layout(count, SIZE)), finish=True)
    np.save(path / "labels.npy", np.arange(count) * CLASSES // count)
    groups = [f"class{row % CLASSES}/object{row // 10}" for row in range(count)]
    names = {"ids": [f"class{row % CLASSES}/picture{row}.webp" for row in range(count)], "groups": groups}
    (path / "names.json").write_text(json.dumps(names))
    described = {
        "schema_version": FORMAT,
        "key": "0" * 64,
        "size": SIZE,
        "fingerprint": "0" * 64,
        "classes": [f"class{label}" for label in range(CLASSES)],
        "pictures": count,
        "rejected": [],
        "labels_crc32": zlib.crc32((path / "labels.npy").read_bytes()),
        "names_crc32": zlib.crc32((path / "names.json").read_bytes()),
    }
    (path / "store.json").write_text(json.dumps(described))


def write_logits(path: Path, count: int = COUNT) -> None:
    """Write teacher logits of nothing but zeros."""
    layout = Layout(shape=(VIEWS * count, CLASSES), dtype="float16", block_rows=BLOCK_ROWS)
    make_once(path, layout, _fill)


def open_both(store: Path, logits: Path) -> dict[str, Any]:
    """Open a store and logits in this process; return how long it took and what was read."""
    before, started = _bytes_read(), time.perf_counter()
    pictures, answers = open_store(store), open_blocks(logits)
    seconds = time.perf_counter() - started
    read = _bytes_read() - before
    if (len(pictures.pictures), len(answers)) != (len(pictures.labels), VIEWS * len(pictures.labels)):
        raise AssertionError("another store or other logits were opened")
    started = time.perf_counter()
    open_store(store), open_blocks(logits)
    return {"ms": 1e3 * seconds, "again_ms": 1e3 * (time.perf_counter() - started), "bytes_read": read}


def _open_apart(store: Path, logits: Path) -> dict[str, Any]:
    program = (
        "import json, sys; from pathlib import Path; from benchmarks.store_open import open_both\n"
        "print(json.dumps(open_both(Path(sys.argv[1]), Path(sys.argv[2]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(store), str(logits)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _fill(maker: BlockMaker, finish: bool = False) -> None:
    for block in maker.missing:
        rows = maker.layout.rows(block)
        maker.write(block, np.zeros((len(rows), *maker.layout.shape[1:]), dtype=maker.layout.dtype))
    if finish:
        maker.finish()


def _bytes_read() -> int:
    """Return what this process has asked the system to read, mapped pages apart, where it keeps count."""
    counted = Path("/proc/self/io")
    if not counted.exists():
        return 0
    return int(counted.read_text().split("rchar:")[1].split()[0])


if __name__ == "__main__":
    main(measure)
