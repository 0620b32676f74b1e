"""How training is packed onto this machine's cores: so many processes, so many threads of torch each.

What is fastest depends on the processor and on torch, so it is measured once, with a real network in real
processes, and kept in the cache.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from hkbench.benchmark.neighbours import neighbours_between, take_snapshot
from hkbench.benchmark.packing_pool import PackingPool
from hkbench.config import cache_dir, usable_cores
from hkbench.errors import HkbenchError
from hkbench.store import atomic
from hkbench.store.cache import key_of, read_kept, touch
from hkbench.store.environment import cpu_model, now, versions

log = logging.getLogger(__name__)

MODEL = "mobilenetv4_conv_small_050"
IMAGE_SIZE = 64
BATCH_SIZE = 64
SECONDS = 2.0
TIE = 0.03
"""Within this share of the fastest, more processes of fewer threads win: a neighbour harms them less."""
ROUNDS = 2
QUIET_CORES = 0.5
"""What other processes may take of the cores for a measurement to be kept unasked."""
START_LIMIT_S = 120.0
"""How long starting and warming up may take, all together."""

Advance = Callable[[int, int], None]


class PackingRow(BaseModel):
    """One way to use the cores; the pictures are those of all processes together, None unmeasured."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    workers: PositiveInt
    threads: PositiveInt
    pictures_per_s: PositiveFloat | None


class PackingMeasurement(BaseModel):
    """All ways to use the cores, measured in turn. `neighbour_cores` is what others took meanwhile."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cpu_model: str
    cores: PositiveInt
    torch: str
    model: str
    image_size: PositiveInt
    batch_size: PositiveInt
    seconds: PositiveFloat
    measured: str
    neighbour_cores: float
    rows: tuple[PackingRow, ...] = Field(min_length=1)

    @property
    def best(self) -> PackingRow:
        """The fastest row; of those within 3 % of it, the one with the most processes."""
        least = (1 - TIE) * max(row.pictures_per_s or 0.0 for row in self.rows)
        tied = [row for row in self.rows if (row.pictures_per_s or 0.0) >= least]
        return max(tied, key=lambda row: row.workers)


class _Question(BaseModel):
    """What decides a measurement: its key in the cache."""

    model_config = ConfigDict(frozen=True)

    cpu_model: str
    cores: int
    torch: str
    model: str
    image_size: int
    batch_size: int
    seconds: float

    @property
    def path(self) -> Path:
        return cache_dir() / "packing" / f"{key_of(self.model_dump())}.json"


def best_packing(device: str, *, cached_only: bool = False) -> tuple[int, int]:
    """Return (trainings at once, threads of each) for a device; on a CPU measured here if it never was.

    One training on a GPU, with all threads for its data. Where the cores can't be measured, or with
    `cached_only` never were, it is one thread for each of them.
    """
    cores = usable_cores()
    if device.partition(":")[0] != "cpu":
        return 1, cores
    try:
        found = cached_packing() if cached_only else measure_packing()
    except (HkbenchError, OSError) as error:
        log.warning("%s %d trainings of one thread each are used instead.", error, cores)
        found = None
    return (cores, 1) if found is None else (found.best.workers, found.best.threads)


def measure_packing(
    model: str = MODEL,
    image_size: int = IMAGE_SIZE,
    batch_size: int = BATCH_SIZE,
    seconds: float = SECONDS,
    advance: Advance | None = None,
    *,
    again: bool = False,
) -> PackingMeasurement:
    """Return how fast each packing trains, measured here or taken from the cache.

    Args:
        model: a key of `MODELS`, trained on random pictures.
        image_size: their side in pixels.
        batch_size: pictures a step.
        seconds: for how long pictures are counted, for each candidate; starting and warming up not counted.
        advance: called with (windows done, windows in all).
        again: measure even if the cache holds it.

    Raises:
        HkbenchError: a training process failed.
    """
    question = _question(model, image_size, batch_size, seconds)
    if question.cores == 1:  # there is one way
        row = PackingRow(workers=1, threads=1, pictures_per_s=None)
        return _measurement(question, (row,), neighbour_cores=0.0)
    question.path.parent.mkdir(parents=True, exist_ok=True)
    # Two measurements at once would each see half a machine: the second one waits and reads the first's.
    with FileLock(f"{question.path}.lock"):
        found = None if again else read_kept(question.path, PackingMeasurement)
        if found is None:
            found = _measure(question, advance)
            if again or found.neighbour_cores <= QUIET_CORES:  # beside others it says little
                atomic.write_text(question.path, found.model_dump_json() + "\n")
    touch(question.path)
    return found


def cached_packing() -> PackingMeasurement | None:
    """Return what `measure_packing` of the defaults has measured before, None if it hasn't."""
    question = _question(MODEL, IMAGE_SIZE, BATCH_SIZE, SECONDS)
    return measure_packing() if question.cores == 1 else read_kept(question.path, PackingMeasurement)


def candidates(cores: int) -> list[tuple[int, int]]:
    """Return the (workers, threads) to compare, the most workers first.

    All cores are used, and one of the two numbers is a power of two or 1.
    """
    splits = [(cores // threads, threads) for threads in range(1, cores + 1) if cores % threads == 0]
    return [split for split in splits if any(number & (number - 1) == 0 for number in split)]


def _question(model: str, image_size: int, batch_size: int, seconds: float) -> _Question:
    return _Question(
        cpu_model=cpu_model(),
        cores=usable_cores(),
        torch=versions()["torch"],
        model=model,
        image_size=image_size,
        batch_size=batch_size,
        seconds=seconds,
    )


def _measure(question: _Question, advance: Advance | None) -> PackingMeasurement:
    """Measure every candidate in every round, each round the other way round: a drift harms all alike."""
    splits = candidates(question.cores)
    window_s = question.seconds / ROUNDS
    trained = dict.fromkeys(splits, 0.0)
    order = [split for number in range(ROUNDS) for split in (splits if number % 2 == 0 else splits[::-1])]
    job = question.model_dump_json(include={"model", "image_size", "batch_size"})
    limit_s = START_LIMIT_S + 2 * window_s * len(order)
    before = take_snapshot(processes=False)
    with PackingPool(job, workers=question.cores, limit_s=limit_s) as pool:
        for done, (workers, threads) in enumerate(order, start=1):
            trained[workers, threads] += pool.pictures_trained(
                workers=workers, threads=threads, seconds=window_s
            )
            if advance is not None:
                advance(done, len(order))
        after = take_snapshot(processes=False)
    rows = tuple(
        PackingRow(workers=workers, threads=threads, pictures_per_s=pictures / question.seconds)
        for (workers, threads), pictures in trained.items()
    )
    return _measurement(question, rows, neighbours_between(before, after).cores)


def _measurement(
    question: _Question, rows: tuple[PackingRow, ...], neighbour_cores: float
) -> PackingMeasurement:
    return PackingMeasurement(
        **question.model_dump(), measured=now(), neighbour_cores=round(neighbour_cores, 2), rows=rows
    )
