"""What is read of a machine: from fake control groups, processor files, counters and drivers."""

from pathlib import Path

import pynvml
import pytest

from hkbench.benchmark import doctor, gpus, machine, packing
from hkbench.benchmark.doctor import advise_packing, unmeasured
from hkbench.benchmark.gpus import GpuFacts, Gpus, find_gpus
from hkbench.benchmark.neighbours import BusyProcess, CpuSnapshot, neighbours_between
from hkbench.config import memory_limit_bytes
from hkbench.errors import HkbenchError
from hkbench.telemetry.nvml import GpuReading, NvmlUnavailableError

GB = 10**9


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("flags", "features"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni amx_tile", ("avx2", "avx512", "vnni", "amx")),
        ("flags : fpu avx2 avx_vnni", ("avx2", "vnni")),
        ("Features\t: fp asimd sve bf16", ("bf16", "neon", "sve")),
        ("flags : fpu", ()),
        ("model name : one without flags", None),
    ],
)
def test_features_of_the_processor(tmp_path: Path, flags: str, features: tuple[str, ...] | None) -> None:
    info = write(tmp_path / "cpuinfo", f"processor : 0\n{flags}\n")
    assert machine.cpu(info).features == features


def test_a_system_without_processor_file(tmp_path: Path) -> None:
    assert machine.cpu(tmp_path / "nowhere").features is None


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/", {"memory.max": "4000000000\n"}, 4 * GB),
        ("0::/a/b", {"a/b/memory.max": "max\n", "a/memory.max": "3000000000\n"}, 3 * GB),
        ("0::/of/the/host", {"memory.max": "2000000000\n"}, 2 * GB),
        ("4:memory:/job\n1:cpu:/", {"memory/job/memory.limit_in_bytes": "1000000000\n"}, GB),
        ("0::/", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ("0::/", {"memory.max": "max\n"}, None),
        ("", {}, None),
    ],
)
def test_memory_limit_of_a_container(
    tmp_path: Path, own: str, files: dict[str, str], limit: int | None
) -> None:
    for name, text in files.items():
        write(tmp_path / "cgroup" / name, text)
    found = memory_limit_bytes(
        total_bytes=8 * GB, cgroups=tmp_path / "cgroup", own=write(tmp_path / "own", own)
    )
    assert found == limit


def test_a_cache_that_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path / "not" / "yet"))
    found = machine.cache_folder()
    assert (found.path, found.size_bytes, found.is_writable) == (tmp_path / "not" / "yet", 0, True)
    assert 0 < found.free_bytes <= found.total_bytes


def test_a_cache_where_a_file_lies_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HKBENCH_CACHE", str(write(tmp_path / "file", "") / "cache"))
    assert not machine.cache_folder().is_writable


def test_the_compiler_is_the_one_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = write(tmp_path / "mine", "")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert machine.cpp_compiler() == str(compiler)
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert machine.cpp_compiler() is None


def snapshot(moment_s: float, busy_s: float, own_s: float, **others: float) -> CpuSnapshot:
    numbered = {(number, name): cpu_s for number, (name, cpu_s) in enumerate(sorted(others.items()))}
    return CpuSnapshot(moment_s=moment_s, busy_s=busy_s, own_s=own_s, others=numbered)


def test_neighbours_are_what_is_busy_without_us() -> None:
    before = snapshot(10.0, 100.0, 5.0, idle=7.0, make=20.0)
    found = neighbours_between(before, snapshot(12.0, 103.0, 6.0, idle=7.0, make=21.5))
    assert found.cores == pytest.approx(1.0)
    assert found.busiest == (BusyProcess(pid=1, name="make", cores=0.75),)


def test_counters_that_disagree_are_no_neighbour() -> None:
    assert neighbours_between(snapshot(0.0, 1.0, 1.0), snapshot(1.0, 1.5, 2.0)).cores == 0.0


class FakeGpu:
    """A device that doesn't tell its energy."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid

    def read(self) -> GpuReading:
        return GpuReading(
            utilization=0.0, device_bytes=GB, process_bytes=None, energy_j=None,
            missing=("energy: Not Supported", "process memory: this process isn't in NVML's list"),
        )  # fmt: skip


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        total = 8 * GB

    answers = {
        "nvmlInit": None, "nvmlShutdown": None, "nvmlSystemGetDriverVersion": "590.1",
        "nvmlDeviceGetCount": 1, "nvmlDeviceGetHandleByIndex": object(), "nvmlDeviceGetUUID": "GPU-fake",
        "nvmlDeviceGetName": "Fake 8", "nvmlDeviceGetMemoryInfo": Memory,
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, lambda *arguments, answer=answer: answer)
    monkeypatch.setattr(gpus, "Gpu", FakeGpu)


def refuse(*arguments: object) -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


@pytest.mark.usefixtures("driver")
def test_gpus_that_the_driver_lists() -> None:
    found = find_gpus()
    assert (found.driver, found.reason) == ("590.1", None)
    assert found.devices == (
        GpuFacts(
            name="Fake 8", uuid="GPU-fake", memory_bytes=8 * GB, used_bytes=GB,
            missing=("energy: Not Supported",),
        ),
    )  # fmt: skip
    assert ("GPU 0", "energy: Not Supported") in [(each.what, each.reason) for each in unmeasured(found)]


@pytest.mark.usefixtures("driver")
def test_a_gpu_that_tells_little(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(uuid: str) -> None:
        raise NvmlUnavailableError(f"NVML can't read {uuid}: Insufficient Permissions")

    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", refuse)
    monkeypatch.setattr(gpus, "Gpu", cannot)
    (device,) = find_gpus().devices
    assert (device.name, device.used_bytes) == (None, None)
    assert device.missing == ("NVML can't read GPU-fake: Insufficient Permissions",)


@pytest.mark.usefixtures("driver")
def test_a_driver_without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 0)
    assert find_gpus() == Gpus(driver="590.1", devices=(), reason="the NVIDIA driver lists no device")


def test_no_driver_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    assert find_gpus() == Gpus(driver=None, devices=(), reason="NVML: Not Supported")


def test_what_cannot_be_measured_has_its_reason(tmp_path: Path) -> None:
    none = Gpus(driver=None, devices=(), reason="NVML: Not Found")
    found = unmeasured(none, rapl=tmp_path / "rapl", clock=tmp_path / "clock")
    assert [each.what for each in found] == ["GPU usage", "CPU energy", "CPU clock"]
    assert found[0].reason == "NVML: Not Found"
    there = unmeasured(none, rapl=write(tmp_path / "rapl", "1"), clock=write(tmp_path / "clock", "1"))
    assert [each.what for each in there] == ["GPU usage"]


def test_a_packing_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**named: object) -> None:
        raise HkbenchError("A training process failed: no room.")

    monkeypatch.setattr(doctor, "measure_packing", fail)
    monkeypatch.setattr(packing, "usable_cores", lambda: 2)
    found = advise_packing(measure=True)
    assert (found.workers, found.threads) == (2, 1)
    assert found.failure == "A training process failed: no room."
