"""Energy of a call above the idle device's, by a fake counter and by the real bindings over a fake driver."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hkbench.benchmark.artifact import measure_energy
from hkbench.benchmark.devices import Missing
from hkbench.benchmark.energy import measure_energy_of, why_no_energy
from hkbench.benchmark.jobs import EnergyResult
from hkbench.errors import HkbenchError, UsageError

FAKE_NVML = Path(__file__).parents[1] / "telemetry" / "fake_nvml.c"

REASON = """
import json
from hkbench.benchmark.energy import why_no_counter
print(json.dumps(why_no_counter("GPU-fake")))
"""

MEASURE = """
import time
from pathlib import Path
from hkbench.benchmark import worker
from hkbench.benchmark.jobs import RowJob
from hkbench.benchmark.runtimes import Runtime
from hkbench.telemetry.nvml import Gpu
gpu = Gpu("GPU-fake")

def call():
    time.sleep(0.01)
    gpu.read()  # the fake counter gains half a joule at each look

worker.RUNTIMES = {"fake": Runtime(missing=lambda device: None, load=lambda *_: call)}
job = RowJob(path=Path("x.onnx"), runtime="fake", device="cuda:0", device_uuid="GPU-fake", batch=1, threads=1,
             time_limit_s=1, energy_seconds=0.3)
print(worker.measure_energy(job, job.energy_seconds).model_dump_json())
"""


class Device:
    """A device with a clock of its own that takes `idle_w`, and `call_j` more for each call of `call_s`."""

    def __init__(self, *, idle_w: float, call_j: float, call_s: float) -> None:
        self.now = self.joules = 0.0
        self._idle_w, self._call_j, self._call_s = idle_w, call_j, call_s

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.joules += self._idle_w * seconds

    def call(self) -> None:
        self.sleep(self._call_s)
        self.joules += self._call_j


def energy_on(device: Device, seconds: float = 5.0) -> Any:
    return measure_energy_of(
        device.call, lambda: device.joules, seconds=seconds, clock=lambda: device.now, sleep=device.sleep
    )


@given(idle_w=st.floats(0, 300), call_mj=st.floats(1, 1000), call_ms=st.floats(1, 300))
def test_what_the_idle_device_takes_is_no_cost_of_a_call(
    idle_w: float, call_mj: float, call_ms: float
) -> None:
    found = energy_on(Device(idle_w=idle_w, call_j=call_mj / 1000, call_s=call_ms / 1000))
    assert found.energy_mj == pytest.approx(call_mj, rel=1e-3)
    assert found.idle_w == pytest.approx(idle_w)
    assert found.calls * call_ms >= 5000 * (1 - 1e-9)


def test_both_stretches_take_five_seconds() -> None:
    device = Device(idle_w=50, call_j=0.01, call_s=0.25)
    energy_on(device)
    assert device.now == pytest.approx(10)


def test_calls_that_take_no_more_than_rest_have_no_energy() -> None:
    with pytest.raises(HkbenchError, match=r"no more over \d+ calls than over a rest"):
        energy_on(Device(idle_w=50, call_j=-0.001, call_s=0.1))


def test_a_processor_has_no_energy(tmp_path: Path) -> None:
    assert "no energy counter" in str(why_no_energy("cpu"))
    with pytest.raises(UsageError, match="There is no device 'gpu'"):
        why_no_energy("gpu")
    found = measure_energy(tmp_path / "x.onnx", device="cpu")
    assert isinstance(found, Missing)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc or gcc) to build the fake NVML library with")
    folder = tmp_path_factory.mktemp("energy-driver")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, FAKE_NVML], check=True)
    return folder


def run(driver: Path, program: str, *lacking: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(driver), **dict.fromkeys(lacking, "1")}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("lacking", "reason"),
    [
        ([], None),
        (["FAKE_NO_ENERGY"], "energy: Not Supported"),
        (["FAKE_NOTHING"], "energy: Not Supported"),
    ],
)
def test_a_card_without_a_counter_says_so(driver: Path, lacking: list[str], reason: str | None) -> None:
    assert json.loads(run(driver, REASON, *lacking).stdout) == reason


def test_a_machine_without_the_card_says_so(tmp_path: Path) -> None:
    assert json.loads(run(tmp_path, REASON).stdout).startswith("NVML can't read GPU-fake: ")


def test_the_worker_reads_the_counter_around_its_calls(driver: Path) -> None:
    found = EnergyResult.model_validate_json(run(driver, MEASURE).stdout)
    assert found.alone
    assert found.calls > 1
    # Half a joule a call; the looks before and after add as much to both stretches.
    assert found.energy_mj == pytest.approx(500, abs=500 / found.calls)


def test_a_counter_that_is_not_there_ends_the_worker_with_its_reason(driver: Path) -> None:
    done = run(driver, MEASURE, "FAKE_NO_ENERGY")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("energy: Not Supported")
