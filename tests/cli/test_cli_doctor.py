"""`hkbench doctor`: what it prints, its JSON, its warnings and its exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hkbench.benchmark import doctor as facts
from hkbench.benchmark import machine
from hkbench.benchmark.doctor import Diagnosis, PackingAdvice, TorchFacts
from hkbench.benchmark.gpus import GpuFacts, Gpus
from hkbench.benchmark.neighbours import BusyProcess, Neighbours
from hkbench.benchmark.packing import PackingMeasurement
from hkbench.cli import doctor as command
from hkbench.cli.app import main
from hkbench.errors import HkbenchError

HKBENCH = Path(sys.executable).parent / "hkbench"
GB = 10**9
DISK = machine.Folder(
    path=Path("/cache"), size_bytes=GB, total_bytes=100 * GB, free_bytes=50 * GB, is_writable=True
)


def measurement(neighbour_cores: float = 0.0, *, two_threads: float = 1_500.0) -> PackingMeasurement:
    return PackingMeasurement.model_validate(
        {
            "cpu_model": "Fake CPU", "cores": 2, "torch": "2", "model": "household_s", "image_size": 32,
            "batch_size": 8, "seconds": 1.0, "measured": "2026-11-24T12:00:00+00:00",
            "neighbour_cores": neighbour_cores,
            "rows": [
                {"workers": 2, "threads": 1, "pictures_per_s": 2_345.0},
                {"workers": 1, "threads": 2, "pictures_per_s": two_threads},
            ],
        }
    )  # fmt: skip


def packing(**changes: Any) -> PackingAdvice:
    whole = {"workers": 2, "threads": 1, "why": "the fastest", "measurement": measurement(), "failure": None}
    return PackingAdvice(**(whole | changes))


def diagnosis(**changes: Any) -> Diagnosis:
    """Return a machine without a fault, but for the changes."""
    healthy = Diagnosis(
        cpu=machine.Cpu(model="Fake CPU", features=("avx2",)),
        cores=machine.Cores(logical=4, physical=2, affinity=4, quota=2, usable=2),
        memory=machine.Memory(total_bytes=16 * GB, available_bytes=12 * GB, limit_bytes=8 * GB),
        neighbours=Neighbours(cores=0.01, seconds=1.0, busiest=()),
        torch=TorchFacts(
            threads=2, omp_num_threads="2", vector_instructions="AVX2", cuda_reason="torch finds no device"
        ),
        packing=packing(),
        compiler=None,
        gpus=Gpus(driver=None, devices=(), reason="NVML: Not Found"),
        versions={"torch": "2.14.1"},
        cache=DISK,
        shared_memory=replace(DISK, path=Path("/shm")),
        unmeasured=(),
    )
    return replace(healthy, **changes)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the command on a made-up machine; return its exit code."""

    def run_on(found: Diagnosis, *arguments: str) -> int:
        monkeypatch.setattr(command, "diagnose", lambda **named: found)
        monkeypatch.setattr(sys, "argv", ["hkbench", "doctor", *arguments])
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run_on


def test_the_command_itself_as_json(tmp_path: Path) -> None:
    done = subprocess.run(
        [HKBENCH, "doctor", "--no-measure", "--json"],
        capture_output=True, text=True, check=False, env={**os.environ, "HKBENCH_CACHE": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cores"]["usable"] >= 1
    assert found["memory"]["total_bytes"] > found["memory"]["available_bytes"] > 0
    assert found["torch"]["threads"] >= 1
    assert set(command.LIBRARIES) <= set(found["versions"])
    assert found["cache"]["path"] == str(tmp_path)
    assert (found["gpus"]["reason"] is None) == bool(found["gpus"]["devices"])
    assert found["packing"]["failure"] is None
    if found["cores"]["usable"] > 1:  # and nothing was measured
        assert found["packing"]["measurement"] is None
        assert (found["packing"]["workers"], found["packing"]["threads"]) == (found["cores"]["usable"], 1)
        assert any("never measured" in each["problem"] for each in found["warnings"])
    assert list(tmp_path.iterdir()) == []


def test_help_has_an_example() -> None:
    done = subprocess.run(
        [HKBENCH, "doctor", "--help"], capture_output=True, text=True, check=True,
        env={**os.environ, "COLUMNS": "100"},
    )  # fmt: skip
    assert "Example: hkbench doctor" in done.stdout


def test_a_page_that_fits_80_columns(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(diagnosis()) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    lines = [" ".join(line.split()) for line in said.splitlines()]
    for line in (
        "processor Fake CPU",
        "cores 2 to use (4 logical, 2 physical, 4 by affinity, 2 by quota)",
        "memory 12.0 GB of 16.0 GB available, 8.0 GB by control group",
        "torch 2 threads by itself (OMP_NUM_THREADS=2), AVX2 kernels",
        "2 × 1 thread 2,345 pictures/s ← used",
        "1 × 2 threads 1,500 pictures/s",
        "searches use 2 × 1 thread: the fastest",
        "none NVML: Not Found",
        "No warnings",
    ):
        assert line in lines


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {
                "neighbours": Neighbours(
                    cores=0.9, seconds=1.0, busiest=(BusyProcess(pid=7, name="make", cores=0.9),)
                )
            },
            "Other processes take 0.9 of 2 cores: make (7).",
        ),
        ({"packing": packing(measurement=None)}, "never measured here"),
        ({"packing": packing(measurement=measurement(0.9))}, "while other processes took 0.9 cores"),
        (
            {"memory": machine.Memory(total_bytes=16 * GB, available_bytes=12 * GB, limit_bytes=GB)},
            "1.0 GB of memory",
        ),
        ({"cache": replace(DISK, is_writable=False)}, "/cache can't be written to"),
        ({"cache": replace(DISK, free_bytes=GB)}, "1.0 GB are free where the cache lies"),
        ({"shared_memory": replace(DISK, path=Path("/shm"), free_bytes=64 * 10**6)}, "/shm has 64 MB free"),
        (
            {
                "gpus": Gpus(
                    driver="590",
                    devices=(GpuFacts(name="G", uuid="GPU-1", memory_bytes=GB, used_bytes=None, missing=()),),
                    reason=None,
                )
            },
            "a GPU that can't be trained on: torch finds no device",
        ),
    ],
)
def test_what_stands_in_the_way_is_a_warning_with_a_remedy(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], changes: dict[str, Any], problem: str
) -> None:
    assert run(diagnosis(**changes), "--json") == 0
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert problem in warning["problem"]
    run(diagnosis(**changes))
    said = " ".join(capsys.readouterr().out.split())
    assert problem in said
    assert f"→ {warning['remedy']}" in said


def test_a_packing_that_could_not_be_measured_is_exit_code_3(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    failed = diagnosis(packing=packing(measurement=None, failure="A training process failed: no room."))
    assert run(failed, "--json") == 3
    said = capsys.readouterr()
    assert json.loads(said.out)["packing"]["failure"] == "A training process failed: no room."
    assert "error: The packing couldn't be measured. A training process failed: no room." in said.err


@pytest.mark.parametrize(
    ("two_threads", "why"),
    [(1_500.0, "the fastest, measured"), (2_400.0, "as fast as the fastest within 3 %")],
)
def test_why_a_packing_is_used(monkeypatch: pytest.MonkeyPatch, two_threads: float, why: str) -> None:
    monkeypatch.setattr(facts, "measure_packing", lambda **named: measurement(two_threads=two_threads))
    found = facts.advise_packing()
    assert (found.workers, found.threads) == (2, 1)
    assert found.why.startswith(why)


@pytest.mark.parametrize(
    ("arguments", "asked"), [([], None), (["--measure"], True), (["--no-measure"], False)]
)
def test_whether_to_measure_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], asked: bool | None
) -> None:
    def diagnose(*, measure: bool | None, advance: object) -> Diagnosis:
        raise HkbenchError(f"asked {measure}")

    monkeypatch.setattr(command, "diagnose", diagnose)
    monkeypatch.setattr(sys, "argv", ["hkbench", "--debug", "doctor", *arguments])
    with pytest.raises(HkbenchError, match=f"asked {asked}"):
        main()
