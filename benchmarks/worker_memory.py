"""Two workers on the same data: the memory that the data takes, against one worker."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claim import Claim, machine, main
from hkbench.store.blocks import make_once
from hkbench.store.journal import Layout

TARGET = 1.15
VIEWS = 4
CLASSES = 69
SIZE = 64

WORKER = """
import sys
from pathlib import Path
import numpy as np, psutil, torch
from hkbench.training.ahead import open_ahead
from hkbench.training.feed import TrainingData, feed_for
from hkbench.store.blocks import open_blocks
torch.set_num_threads(1)

def mapped(field):
    maps = psutil.Process().memory_maps(grouped=True)
    return sum(getattr(each, field) for each in maps if each.path.startswith(folder))

def private():
    maps = psutil.Process().memory_maps(grouped=True)
    return sum(each.anonymous for each in maps)

folder, views = sys.argv[1], int(sys.argv[2])
at = Path(folder)
before = private()
pictures, logits = open_blocks(at / "pictures.npy"), open_ahead(at / "logits.npy", views)
count = len(pictures)
data = TrainingData(
    pictures=pictures, labels=np.arange(count) % 69, train=np.arange(count), validation=np.arange(8),
    views=np.load(at / "views.npy", mmap_mode="r"), teacher_logits=logits,
    inputs=open_ahead(at / "rendered.npy", views),
)
feed = feed_for(data, torch.device("cpu"), with_teacher=True)
order = np.random.default_rng(0).permutation(count)
for view in range(views):
    for batch in feed.epoch(np.array_split(order, count // 64), np.full(count, view)):
        pass
print("read", flush=True)
sys.stdin.readline()
import json
own = private() - before  # the last batch and whatever was copied
print(json.dumps({"pss": mapped("pss"), "rss": mapped("rss"), "private": own}), flush=True)
sys.stdin.readline()
"""


def measure(quick: bool) -> Claim:
    """Let one worker, then two at once, read every view; compare the proportional set size of the data."""
    count = 1_500 if quick else 7_706
    with tempfile.TemporaryDirectory() as folder:
        total = _write(Path(folder), count)
        one = _workers(folder, 1)
        two = _workers(folder, 2)
    value = _data_bytes(two) / _data_bytes(one)
    return Claim(
        name="worker_memory",
        value=value,
        unit="times the memory of one worker, data part, PSS",
        target=f"at most {TARGET}",
        holds=value <= TARGET,
        details={
            "files_mb": total / 1e6,
            "one_worker_mb": [_megabytes(row) for row in one],
            "two_workers_mb": [_megabytes(row) for row in two],
            "a_copy_each_would_be": 2.0,
            **machine(threads=1),
        },
    )


def _write(folder: Path, count: int) -> int:
    """Write what a search of `count` pictures at 64 px maps: pictures, views, rendered views and logits."""
    rng = np.random.default_rng(0)
    arrays = {
        "pictures": ((count, 3, SIZE, SIZE), "uint8"),
        "rendered": ((VIEWS * count, SIZE, SIZE, 3), "uint8"),
        "logits": ((VIEWS * count, CLASSES), "float16"),
    }
    for name, (shape, dtype) in arrays.items():
        layout = Layout(shape=shape, dtype=dtype, block_rows=256)

        def fill(maker: Any, layout: Layout = layout) -> None:
            for block in maker.missing:
                values = rng.integers(0, 255, (len(layout.rows(block)), *layout.shape[1:]))
                maker.write(block, values.astype(layout.dtype))

        make_once(folder / f"{name}.npy", layout, fill)
    np.save(folder / "views.npy", np.zeros((VIEWS, count, 14), dtype=np.float16))
    return sum(path.stat().st_size for path in folder.glob("*.npy"))


def _workers(folder: str, number: int) -> list[dict[str, int]]:
    """Start workers, wait until all have read everything, then ask each what it holds."""
    command = [sys.executable, "-c", WORKER, folder, str(VIEWS)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, **pipes) for _ in range(number)]  # type: ignore[call-overload]
    try:
        for worker in workers:
            assert worker.stdout.readline() == "read\n", "a worker ended early"
        found = []
        for worker in workers:
            worker.stdin.write("\n")
            worker.stdin.flush()
            found.append(json.loads(worker.stdout.readline()))
    finally:
        for worker in workers:
            worker.communicate("\n")
    return found


def _data_bytes(workers: list[dict[str, int]]) -> int:
    return sum(worker["pss"] + worker["private"] for worker in workers)


def _megabytes(worker: dict[str, int]) -> dict[str, float]:
    return {name: value / 1e6 for name, value in worker.items()}


if __name__ == "__main__":
    main(measure)
