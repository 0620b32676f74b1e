"""The real NVML bindings over a small fake driver library, each case in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hkbench.telemetry.nvml import Gpu, NvmlUnavailableError

GIB = 1 << 30

READ = """
import dataclasses, json
from hkbench.telemetry.nvml import Gpu
print(json.dumps(dataclasses.asdict(Gpu("GPU-fake").read())))
"""

SAMPLE = """
from hkbench.telemetry.sampler import Sampler
with Sampler(interval_s=0.005, device_uuid="{uuid}") as sampler:
    sum(range(2_000_000))
print(sampler.usage().model_dump_json())
"""

LONG_STRETCH = """
from hkbench.telemetry.host import read_host
from hkbench.telemetry.nvml import Gpu
from hkbench.telemetry.tally import Reading, Tally
gpu = Gpu("GPU-fake")
tally = Tally(Reading(moment_s=0.0, host=read_host(), gpu=gpu.read()), None)
for moment_s in (5.0, 10.0):
    tally.add(Reading(moment_s=moment_s, host=read_host(), gpu=gpu.read()))
print(tally.usage().model_dump_json())
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc or gcc) to build the fake NVML library with")
    folder = tmp_path_factory.mktemp("driver")
    source = Path(__file__).with_name("fake_nvml.c")
    name = "libnvidia-ml.so.1"
    subprocess.run(
        [
            compiler,
            "-Wall",
            "-Werror",
            "-shared",
            "-fPIC",
            f"-Wl,-soname,{name}",
            "-o",
            folder / name,
            source,
        ],
        check=True,
    )
    return folder


def answer(driver: Path, program: str, *lacking: str) -> dict[str, Any]:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(driver), **dict.fromkeys(lacking, "1")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_reading_gives_what_the_device_tells(driver: Path) -> None:
    found = answer(driver, READ)
    assert found["utilization"] == 0.5
    assert found["device_bytes"] == 3 * GIB
    assert found["process_bytes"] == GIB
    assert found["energy_j"] == 1000.5
    assert found["missing"] == []


def test_card_without_energy_counter(driver: Path) -> None:
    found = answer(driver, READ, "FAKE_NO_ENERGY")
    assert found["energy_j"] is None
    assert found["utilization"] == 0.5
    assert found["missing"] == ["energy: Not Supported"]


def test_foreign_process_ids_leave_the_process_memory_unknown(driver: Path) -> None:
    found = answer(driver, READ, "FAKE_CONTAINER")
    assert found["process_bytes"] is None
    assert found["device_bytes"] == 3 * GIB
    assert found["missing"] == ["process memory: this process isn't in NVML's list, the device's is given"]


def test_usage_over_a_long_stretch(driver: Path) -> None:
    usage = answer(driver, LONG_STRETCH)
    assert usage["gpu_seconds"] == 5.0
    assert usage["peak_gpu_bytes"] == GIB
    assert usage["energy_j"] == 1.0
    assert usage["gpu_reason"] is None


def test_sampler_beside_work_on_a_gpu(driver: Path) -> None:
    usage = answer(driver, SAMPLE.format(uuid="GPU-fake"))
    assert usage["gpu_seconds"] == pytest.approx(usage["seconds"] / 2)
    assert usage["peak_gpu_bytes"] == GIB
    assert usage["energy_j"] is None
    assert usage["gpu_reason"].startswith("energy: the counter needs 5 s, this took ")


def test_sampler_in_a_container_gives_the_memory_of_the_device(driver: Path) -> None:
    usage = answer(driver, SAMPLE.format(uuid="GPU-fake"), "FAKE_CONTAINER")
    assert usage["peak_gpu_bytes"] == 3 * GIB
    assert "the device's is given" in usage["gpu_reason"]


def test_sampler_beside_a_device_that_tells_nothing(driver: Path) -> None:
    usage = answer(driver, SAMPLE.format(uuid="GPU-fake"), "FAKE_NOTHING")
    assert usage["gpu_seconds"] is None
    assert usage["peak_gpu_bytes"] is None
    assert usage["energy_j"] is None
    for what in ("utilization", "device memory", "process memory", "energy"):
        assert f"{what}: Not Supported" in usage["gpu_reason"]


def test_sampler_of_a_device_that_is_not_there(driver: Path) -> None:
    usage = answer(driver, SAMPLE.format(uuid="GPU-gone"))
    assert usage["gpu_seconds"] is None
    assert usage["gpu_reason"] == "NVML can't read GPU-gone: Not Found"


def test_without_a_driver_the_reason_says_so(tmp_path: Path) -> None:
    usage = answer(tmp_path, SAMPLE.format(uuid="GPU-fake"))
    assert usage["gpu_seconds"] is None
    assert usage["cpu_seconds"] > 0
    # A machine with a real driver answers that this device isn't one of its own.
    assert usage["gpu_reason"].startswith("NVML can't read GPU-fake: ")


def test_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(NvmlUnavailableError, match="NVML can't read GPU-none"):
        Gpu("GPU-none")
