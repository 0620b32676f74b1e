"""How training is packed onto cores: candidates, the tie rule, the cache, and real training processes."""

import json
import logging
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from hkbench.benchmark import packing
from hkbench.benchmark.packing import PackingMeasurement, best_packing, candidates, measure_packing
from hkbench.benchmark.packing_pool import PackingPool
from hkbench.benchmark.packing_worker import Window
from hkbench.errors import HkbenchError

JOB = '{"model": "household_s", "image_size": 32, "batch_size": 8}'


class FakePool:
    """Trains at the given rates: (workers, threads) → pictures a second."""

    rates: dict[tuple[int, int], float]
    windows: int

    def __init__(self, job: str, *, workers: int, limit_s: float) -> None:
        self.workers = workers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def pictures_trained(self, *, workers: int, threads: int, seconds: float) -> float:
        assert workers <= self.workers
        type(self).windows += 1
        return self.rates[workers, threads] * seconds


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[FakePool]:
    """Two cores, an empty cache and processes that aren't there."""
    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(packing, "usable_cores", lambda: 2)
    monkeypatch.setattr(packing, "PackingPool", FakePool)
    monkeypatch.setattr(packing, "QUIET_CORES", math.inf)  # whatever else this machine does
    FakePool.rates = {(2, 1): 100.0, (1, 2): 80.0}
    FakePool.windows = 0
    return FakePool


def measured(rates: dict[tuple[int, int], float]) -> PackingMeasurement:
    rows = [
        {"workers": workers, "threads": threads, "pictures_per_s": rate}
        for (workers, threads), rate in rates.items()
    ]
    return PackingMeasurement.model_validate(
        {
            "cpu_model": "one", "cores": 2, "torch": "2", "model": "household_s", "image_size": 32,
            "batch_size": 8, "seconds": 1.0, "measured": "2026-11-24T12:00:00+00:00", "neighbour_cores": 0.0,
            "rows": rows,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cores", "splits"),
    [
        (1, [(1, 1)]),
        (2, [(2, 1), (1, 2)]),
        (6, [(6, 1), (3, 2), (2, 3), (1, 6)]),
        (7, [(7, 1), (1, 7)]),
        (8, [(8, 1), (4, 2), (2, 4), (1, 8)]),
        (18, [(18, 1), (9, 2), (2, 9), (1, 18)]),
    ],
)
def test_candidates_use_all_cores(cores: int, splits: list[tuple[int, int]]) -> None:
    assert candidates(cores) == splits


@pytest.mark.parametrize(
    ("rates", "best"),
    [
        ({(4, 1): 90.0, (2, 2): 100.0, (1, 4): 99.0}, (2, 2)),
        ({(4, 1): 97.5, (2, 2): 98.0, (1, 4): 100.0}, (4, 1)),
        ({(4, 1): 50.0, (2, 2): 96.0, (1, 4): 100.0}, (1, 4)),
    ],
)
def test_within_three_percent_more_workers_win(
    rates: dict[tuple[int, int], float], best: tuple[int, int]
) -> None:
    found = measured(rates).best
    assert (found.workers, found.threads) == best


def test_a_measurement_is_made_once(pool: type[FakePool]) -> None:
    seen: list[tuple[int, int]] = []
    found = measure_packing(advance=lambda done, total: seen.append((done, total)))
    rates = {(row.workers, row.threads): row.pictures_per_s for row in found.rows}
    assert rates == pytest.approx(pool.rates)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]

    pool.rates = {(2, 1): 1.0, (1, 2): 2.0}
    assert measure_packing() == found
    assert best_packing("cpu") == (2, 1)
    assert pool.windows == 4

    measure_packing(again=True)
    assert best_packing("cpu", cached_only=True) == (1, 2)


def test_another_number_of_cores_is_another_measurement(
    pool: type[FakePool], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_packing()
    monkeypatch.setattr(packing, "usable_cores", lambda: 3)
    pool.rates = {(3, 1): 10.0, (1, 3): 20.0}
    assert best_packing("cpu") == (1, 3)


@pytest.mark.parametrize("damage", [b"", b'{"rows": []}', b"\xff\xfe", b'{"rows": [{"wor'])
def test_a_damaged_file_is_measured_again_and_said_so(
    pool: type[FakePool], tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    found = measure_packing()
    (path,) = (tmp_path / "packing").glob("*.json")
    path.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        again = measure_packing()
    assert again.rows == found.rows
    assert f"{path} is damaged and is measured again" in caplog.text
    assert json.loads(path.read_text())["rows"] == [row.model_dump() for row in found.rows]


def test_nothing_is_measured_where_there_is_one_way(
    pool: type[FakePool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "usable_cores", lambda: 1)
    assert best_packing("cpu") == (1, 1)
    assert best_packing("cpu", cached_only=True) == (1, 1)
    assert pool.windows == 0


def test_unmeasured_it_is_one_thread_for_each_core(pool: type[FakePool]) -> None:
    pool.rates = {(2, 1): 1.0, (1, 2): 2.0}
    assert best_packing("cpu", cached_only=True) == (2, 1)
    assert best_packing("cuda") == (1, 2)
    assert best_packing("cuda:0") == (1, 2)
    assert pool.windows == 0


def test_a_search_goes_on_where_the_cores_cannot_be_measured(
    pool: type[FakePool], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **named: object) -> float:
        raise HkbenchError("A training process of the packing measurement failed: no room.")

    monkeypatch.setattr(pool, "pictures_trained", fail)
    with caplog.at_level(logging.WARNING):
        assert best_packing("cpu") == (2, 1)
    assert "failed: no room. 2 trainings of one thread each are used instead." in caplog.text


@pytest.mark.parametrize(
    ("step", "share"),
    [((1.0, 2.0), 1.0), ((0.5, 1.5), 0.5), ((2.5, 4.5), 0.25), ((0.0, 0.5), 0.0), ((0.0, 8.0), 0.25)],
)
def test_steps_count_as_far_as_they_lie_within_the_window(step: tuple[float, float], share: float) -> None:
    assert Window(start_s=1.0, end_s=3.0).share(*step) == pytest.approx(share)


def worker(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", f"import os, sys; sys.stdin.readline(); {program}")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise MemoryError('no room left')", "failed: MemoryError: no room left."),
        ("sys.exit(7)", "failed: it ended with exit code 7."),
        ("os.kill(os.getpid(), 9)", "failed: it was ended by Killed."),
    ],
)
def test_a_worker_that_fails_gives_its_reason(program: str, reason: str) -> None:
    with (
        PackingPool("{}", workers=2, limit_s=60, command=worker(program)) as pool,
        pytest.raises(HkbenchError, match=reason.replace(".", r"\.")),
    ):
        pool.pictures_trained(workers=2, threads=1, seconds=0.1)


def test_a_worker_that_hangs_is_ended() -> None:
    before = set(psutil.Process().children())  # of other tests
    with (
        PackingPool("{}", workers=1, limit_s=0.2, command=worker("sys.stdin.read()")) as pool,
        pytest.raises(HkbenchError, match=r"it took longer than 0\.2 s"),
    ):
        pool.pictures_trained(workers=1, threads=1, seconds=0.1)
    left = set(psutil.Process().children()) - before
    assert [each for each in left if each.status() != psutil.STATUS_ZOMBIE] == []


def test_a_network_that_cannot_be_built_is_named(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "PackingPool", PackingPool)
    with pytest.raises(HkbenchError, match="There is no model 'houshold_s'"):
        measure_packing("houshold_s", 32, 8, 0.2)


def test_real_training_processes(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "PackingPool", PackingPool)
    found = measure_packing("household_s", 32, 8, 0.2)
    assert [(row.workers, row.threads) for row in found.rows] == [(2, 1), (1, 2)]
    assert all(row.pictures_per_s is not None for row in found.rows)
    assert found.neighbour_cores >= 0
    assert measure_packing("household_s", 32, 8, 0.2) == found


def test_workers_end_with_a_parent_that_is_killed() -> None:
    program = f"""
import psutil
from hkbench.benchmark.packing_pool import PackingPool
pool = PackingPool({JOB!r}, workers=1, limit_s=600)
pool.pictures_trained(workers=1, threads=1, seconds=0.05)
print(psutil.Process().children()[0].pid, flush=True)
pool.pictures_trained(workers=1, threads=1, seconds=600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        trainer = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    assert any(has_ended(trainer) for _ in range(60))


def has_ended(process: psutil.Process) -> bool:
    """Wait a little for a process; one that nobody reaps has ended too."""
    gone, _ = psutil.wait_procs([process], timeout=0.5)
    try:
        return bool(gone) or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_measurement_beside_others_is_used_and_not_kept(
    pool: type[FakePool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "QUIET_CORES", -1.0)
    assert measure_packing().best.workers == 2
    assert list((tmp_path / "packing").glob("*.json")) == []
    measure_packing(again=True)
    assert len(list((tmp_path / "packing").glob("*.json"))) == 1, "asked for"
