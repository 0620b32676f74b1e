"""A GPU's memory: limit, probe and its process, the line through it, and torch's words for too little."""

import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hkbench.models.architecture import Architecture
from hkbench.models.build import build
from hkbench.store.records import Usage
from hkbench.telemetry.nvml import NvmlUnavailableError
from hkbench.training.gpu_memory import (
    CONTEXT_BYTES,
    GpuMemory,
    OutOfMemory,
    free_bytes,
    limit_memory,
    out_of_memory_of,
    peak_reserved_bytes,
    reserved_peak,
    smallest_gpu,
    with_own_peak,
)
from hkbench.training.memory_model import STATES, MemoryModel, weight_copies
from hkbench.training.memory_probe import (
    BatchPeak,
    CudaMemory,
    Found,
    MemoryProbe,
    ProbeFailure,
    ProbeJob,
    measure_job,
)
from hkbench.training.memory_process import answer, known_or_probed, probe_memory
from hkbench.training.optimizers import OPTIMIZERS, OptimizerConfig, build_optimizer

MIB, GIB = 1024**2, 1024**3
SMALL = Architecture(model="household_s", image_size=32)
JOB = ProbeJob(architecture=SMALL, classes=5, batch_sizes=(4, 8), mixed_precision=False)


def probe(job: ProbeJob = JOB, **changes: Any) -> MemoryProbe:
    small, large = job.batch_sizes
    values: dict[str, Any] = {
        "job": job,
        "device_bytes": 16 * GIB,
        "context_bytes": 400 * MIB,
        "weight_bytes": 10 * MIB,
        "peaks": (
            BatchPeak(batch_size=small, reserved_bytes=140 * MIB, allocated_bytes=130 * MIB),
            BatchPeak(batch_size=large, reserved_bytes=180 * MIB, allocated_bytes=170 * MIB),
        ),
        "evaluation_bytes": 90 * MIB,
    }
    return MemoryProbe.model_validate(values | changes)


class FakeMemory:
    """A device on which each training takes a little more than the one before, and evaluations 7 MiB."""

    total_bytes = 8 * GIB

    def __init__(self) -> None:
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def peaks(self) -> tuple[int, int]:
        is_training = self.resets % 2 == 1  # each training is followed by an evaluation
        return (self.resets * 10 * MIB, self.resets * 9 * MIB) if is_training else (7 * MIB, 6 * MIB)

    def context_bytes(self) -> int:
        return 300 * MIB


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_probe_trains_at_both_batches_and_reads_each_peak(optimizer: str) -> None:
    job = JOB.model_copy(update={"optimizer": optimizer, "averaged": True})
    found = measure_job(job, torch.device("cpu"), FakeMemory())
    assert found.peaks == (
        BatchPeak(batch_size=4, reserved_bytes=10 * MIB, allocated_bytes=9 * MIB),
        BatchPeak(batch_size=8, reserved_bytes=30 * MIB, allocated_bytes=27 * MIB),
    )
    assert found.evaluation_bytes == 7 * MIB
    assert (found.device_bytes, found.context_bytes) == (8 * GIB, 300 * MIB)
    network = build(SMALL, classes=5)
    assert found.weight_bytes == 4 * sum(each.numel() for each in network.parameters())


def test_frozen_weights_are_no_trained_ones() -> None:
    frozen = measure_job(JOB.model_copy(update={"unfreeze": "none"}), torch.device("cpu"), FakeMemory())
    whole = measure_job(JOB, torch.device("cpu"), FakeMemory())
    assert 0 < frozen.weight_bytes < whole.weight_bytes


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_keeps_as_many_copies_of_the_weights_as_is_said(name: str) -> None:
    network = build(SMALL, classes=5, seed=0)
    optimizer = build_optimizer(network, OptimizerConfig(name=name))
    network(torch.rand(4, 3, 32, 32)).sum().backward()
    optimizer.step()
    weights = sum(each.numel() for each in network.parameters())
    kept = sum(
        value.numel()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.ndim
    )
    if name == "muon":  # one for matrices, two for all else
        assert weights <= kept <= STATES[name] * weights
    else:
        assert kept == STATES[name] * weights


def test_each_optimizer_has_its_copies() -> None:
    assert STATES.keys() == OPTIMIZERS.keys()
    assert weight_copies("adamw", averaged=True) == 5


def peak(model: MemoryModel, batch_size: int, image_size: int = 32, **changes: Any) -> float:
    asked: dict[str, Any] = {"optimizer": "sgd", "averaged": False} | changes
    return model.peak_bytes(batch_size=batch_size, image_size=image_size, **asked)


def test_the_line_goes_through_both_peaks_and_on() -> None:
    model = MemoryModel.fitted(probe())
    assert peak(model, 4) == 140 * MIB
    assert peak(model, 8) == 180 * MIB
    assert peak(model, 16) == 260 * MIB
    assert peak(model, 8, image_size=64) == (100 + 4 * 80) * MIB  # 80 of 180 MiB are the pictures'
    assert peak(model, 8, image_size=16) == (100 + 80 // 4) * MIB


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ((140, 130), (140, 134)),  # hidden behind blocks of 20 MiB
        ((140, 100), (142, 130)),
        ((140, 130), (120, 110)),  # less at the larger batch: another algorithm
    ],
)
def test_no_measured_peak_is_above_the_line(small: tuple[int, int], large: tuple[int, int]) -> None:
    peaks = tuple(
        BatchPeak(batch_size=batch, reserved_bytes=reserved * MIB, allocated_bytes=allocated * MIB)
        for batch, (reserved, allocated) in ((4, small), (8, large))
    )
    model = MemoryModel.fitted(probe(peaks=peaks))
    assert peak(model, 4) >= small[0] * MIB
    assert peak(model, 8) >= large[0] * MIB
    assert peak(model, 64) >= peak(model, 8) + (large[1] - small[1]) / 4 * 56 * MIB


def test_other_optimizers_keep_other_copies_of_the_weights() -> None:
    model = MemoryModel.fitted(probe())
    assert peak(model, 8, optimizer="adamw") - peak(model, 8) == 10 * MIB
    assert peak(model, 8, optimizer="plain_sgd") - peak(model, 8) == -10 * MIB
    assert peak(model, 8, optimizer="lion") - peak(model, 8) == 10 * MIB  # of the step itself
    assert peak(model, 8, averaged=True) - peak(model, 8) == 10 * MIB


def test_an_evaluation_that_takes_more_than_the_training_counts() -> None:
    model = MemoryModel.fitted(probe(evaluation_bytes=500 * MIB))
    assert peak(model, 8) == 500 * MIB
    assert peak(model, 8, image_size=64) == 2000 * MIB
    assert peak(model, 8, image_size=16) == 500 * MIB


MESSAGES = [  # what torch says, the bytes that were asked for, the GiB that others hold
    (
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.99 GiB of which"
        " 3.42 GiB is free. 19.19 GiB allowed; Of the allocated memory 19.01 GiB is allocated by PyTorch,"
        " and 118.00 MiB is reserved by PyTorch but unallocated.",
        2 * GIB,
        23.99 - 3.42 - 19.01 - 0.115 - 0.75,
    ),
    (
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 31.36 GiB of "
        "which 370.69 MiB is free. Process 16335 has 25.34 GiB memory in use. Including non-PyTorch "
        "memory, this process has 5.55 GiB memory in use. Of the allocated memory 4.89 GiB is allocated "
        "by PyTorch, and 77.08 MiB is reserved by PyTorch but unallocated. If reserved but unallocated "
        "memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid "
        "fragmentation.",
        20 * MIB,
        31.36 - 0.362 - 5.55,
    ),
    (  # a container, whose driver doesn't tell what this process has
        "CUDA out of memory. Tried to allocate 3.98 GiB. GPU 0 has a total capacity of 31.84 GiB of which"
        " 16.30 GiB is free. Including non-PyTorch memory, this process has 17179869184.00 GiB memory in "
        "use. 17.51 GiB allowed; Of the allocated memory 6.74 GiB is allocated by PyTorch, and 7.02 GiB "
        "is reserved by PyTorch but unallocated.",
        round(3.98 * GIB),
        31.84 - 16.30 - 6.74 - 7.02 - 0.75,
    ),
    (
        "CUDA out of memory. Tried to allocate 512 bytes. GPU 0 has a total capacty of 6.00 GiB of which "
        "0 bytes is free. Of the allocated memory 2.93 GiB is allocated by PyTorch, and 2.30 GiB is "
        "reserved by PyTorch but unallocated.",
        512,
        6.00 - 2.93 - 2.30 - 0.75,
    ),
    (
        "CUDA out of memory. Tried to allocate 1.65 GiB (GPU 1; 7.79 GiB total capacity; 3.53 GiB already"
        " allocated; 1.40 GiB free; 5.28 GiB reserved in total by PyTorch)",
        round(1.65 * GIB),
        None,
    ),
    (  # CUDA graphs have pools of their own
        "CUDA out of memory. Tried to allocate 76.00 MiB. GPU 0 has a total capacity of 255.69 GiB of "
        "which 252.82 GiB is free. 1.20 GiB allowed; Of the allocated memory 1.14 GiB is allocated by "
        "PyTorch, with 17.00 MiB allocated in private pools (e.g., HIP Graphs), and 18.63 MiB is reserved"
        " by PyTorch but unallocated.",
        76 * MIB,
        255.69 - 252.82 - 1.14 - 0.018 - 0.75,
    ),
    ("CUDA out of memory. Tried to allocate more than 1EB memory.", None, None),
]


@pytest.mark.parametrize(("message", "asked", "others_gib"), MESSAGES)
def test_torchs_messages_tell_what_was_asked_for(
    message: str, asked: int | None, others_gib: float | None
) -> None:
    found = out_of_memory_of(torch.OutOfMemoryError(message))
    assert found is not None
    assert found.asked_bytes == asked
    wanted = None if others_gib is None else pytest.approx(others_gib * GIB, abs=10 * MIB)
    assert found.others_bytes == wanted


def test_it_is_found_behind_another_error_and_in_cudas_libraries() -> None:
    wrapping = ValueError("no features")
    wrapping.__cause__ = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 64.00 MiB. GPU 0")
    assert out_of_memory_of(wrapping) == OutOfMemory(asked_bytes=64 * MIB, others_bytes=None)
    unknown = OutOfMemory(asked_bytes=None, others_bytes=None)
    cublas = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    assert out_of_memory_of(RuntimeError(cublas)) == unknown
    assert out_of_memory_of(torch.AcceleratorError("CUDA error: out of memory")) == unknown
    assert out_of_memory_of(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert out_of_memory_of(MemoryError("out of memory")) is None


class FakeCuda:
    """Stands in for `torch.cuda`: notes what is called, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Any, ...]] = []
        for name in ("empty_cache", "set_per_process_memory_fraction", "reset_peak_memory_stats"):
            monkeypatch.setattr(torch.cuda, name, self._noting(name))
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
        monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda index: {3: 77, 1: 11}[index])

    def _noting(self, name: str) -> Callable[..., None]:
        return lambda *values: self.calls.append((name, *values))


@pytest.mark.parametrize(("device", "index"), [("cuda", 3), ("cuda:1", 1)])
def test_a_limit_is_set_once_what_was_there_is_given_back(
    device: str, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = FakeCuda(monkeypatch)
    limit_memory(torch.device(device), 0.25)
    assert cuda.calls == [
        ("empty_cache",),
        ("set_per_process_memory_fraction", 0.25, index),
        ("reset_peak_memory_stats", index),
    ]
    assert peak_reserved_bytes(torch.device(device)) == {3: 77, 1: 11}[index]


@pytest.mark.parametrize(
    ("free_gib", "fraction", "left_gib"),
    [(10, 1.0, 11), (10, 0.25, 2), (1, 0.25, 2), (0, 0.25, 1), (10, 0.1, 0)],  # of 16, 3 held, 2 of them used
)
def test_what_is_free_to_a_process_is_bounded_by_its_limit(
    free_gib: int, fraction: float, left_gib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {
        "memory_reserved": 3 * GIB,
        "memory_allocated": 2 * GIB,
        "mem_get_info": (free_gib * GIB, 16 * GIB),
        "get_per_process_memory_fraction": fraction,
    }
    for name, value in known.items():
        monkeypatch.setattr(torch.cuda, name, lambda index, value=value: value)
    assert free_bytes(torch.device("cuda:1")) == left_gib * GIB
    assert free_bytes(torch.device("cpu")) == 0


def fake_gpus(monkeypatch: pytest.MonkeyPatch, total_gib: list[int], held_gib: list[int | None]) -> None:
    """Stand in for torch's view of some GPUs, and NVML's where it tells what is held."""
    FakeCuda(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(total_gib))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(total_gib))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"model {index}")
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda index: SimpleNamespace(total_memory=total_gib[index] * GIB, uuid=index),
    )
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (5 * GIB, total_gib[index] * GIB))

    def gpu(uuid: str) -> Any:
        held = held_gib[int(uuid.removeprefix("GPU-"))]
        if held is None:
            raise NvmlUnavailableError("no driver")
        return SimpleNamespace(read=lambda: SimpleNamespace(device_bytes=held * GIB))

    monkeypatch.setattr("hkbench.training.gpu_memory.Gpu", gpu)


def test_all_gpus_are_taken_like_the_smallest_of_which_the_most_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_gpus(monkeypatch, [16, 8, 24], [2, 1, 3])
    assert smallest_gpu() == GpuMemory(model="model 1", total_bytes=8 * GIB, held_bytes=3 * GIB)


def test_without_nvml_torch_says_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpus(monkeypatch, [16], [None])
    assert smallest_gpu() == GpuMemory(model="model 0", total_bytes=16 * GIB, held_bytes=11 * GIB)


def test_without_gpus_there_is_no_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpus(monkeypatch, [], [])
    assert smallest_gpu() is None


def test_a_cpu_has_no_limit_and_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    limit_memory(torch.device("cpu"), 0.25)
    assert cuda.calls == []
    assert peak_reserved_bytes(torch.device("cpu")) is None


def usage(peak_bytes: int | None, reason: str | None = None) -> Usage:
    return Usage(seconds=1.0, peak_gpu_bytes=peak_bytes, gpu_reason=reason)


CONTAINER = "process memory: this process isn't in NVML's list, the device's is given"
SHORT = "energy: the counter needs 5 s, this took 1.0 s"


def test_a_process_peak_is_torchs_less_the_context() -> None:
    assert reserved_peak(usage(5 * GIB), CONTEXT_BYTES) == 5 * GIB - CONTEXT_BYTES
    assert reserved_peak(usage(5 * GIB, SHORT), CONTEXT_BYTES) == 5 * GIB - CONTEXT_BYTES
    assert reserved_peak(usage(MIB), CONTEXT_BYTES) == 0
    assert reserved_peak(usage(None, "the work was given no GPU"), CONTEXT_BYTES) is None


def test_a_whole_devices_peak_is_no_trials_and_torchs_own_takes_its_place() -> None:
    device = usage(70 * GIB, f"{SHORT}; {CONTAINER}")
    assert reserved_peak(device, CONTEXT_BYTES) is None
    own = with_own_peak(device, 2 * GIB)
    assert own.peak_gpu_bytes == 2 * GIB
    assert own.gpu_reason is not None
    assert SHORT in own.gpu_reason
    assert "the device's is given" not in own.gpu_reason
    assert reserved_peak(own, CONTEXT_BYTES) == 2 * GIB  # without a context to take away


@pytest.mark.parametrize(("told", "reserved"), [(usage(5 * GIB), 2 * GIB), (usage(5 * GIB, CONTAINER), None)])
def test_what_the_driver_tells_stays_and_so_does_all_on_a_cpu(told: Usage, reserved: int | None) -> None:
    assert with_own_peak(told, reserved) == told


def test_one_network_that_fails_is_an_answer() -> None:
    def too_large(job: ProbeJob) -> MemoryProbe:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0\nmore")

    assert answer(JOB, too_large) == ProbeFailure(
        reason="OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0",
        out_of_memory=True,
        asked_bytes=2 * GIB,
    )

    def broken(job: ProbeJob) -> MemoryProbe:
        raise TypeError

    assert answer(JOB, broken) == ProbeFailure(reason="TypeError: ")


def saying(*lines: str, then: str = "") -> tuple[str, ...]:
    """Return a command that reads its jobs, prints lines, and does something."""
    prints = "".join(f"print({line!r}, flush=True);" for line in lines)
    return sys.executable, "-c", f"import sys, os, time; sys.stdin.read();{prints}{then}"


def test_answers_come_in_order_and_a_process_that_breaks_off_costs_only_the_rest() -> None:
    first, failed = probe(), ProbeFailure(reason="too deep")
    lines = first.model_dump_json(), failed.model_dump_json()
    assert probe_memory([JOB, JOB], command=saying(*lines)) == [first, failed]
    broken = saying(*lines, then="sys.exit('no more room')")
    assert probe_memory([JOB] * 4, command=broken) == [
        first,
        failed,
        *[ProbeFailure(reason="no more room")] * 2,
    ]
    killed = probe_memory([JOB], command=saying(then="os.kill(os.getpid(), 9)"))
    assert killed == [ProbeFailure(reason="the probe's process ended with exit code -9")]
    (odd,) = probe_memory([JOB], command=saying("hello"))
    assert isinstance(odd, ProbeFailure)
    assert "gave no result: hello" in odd.reason


def test_a_process_that_hangs_is_ended_and_what_it_said_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    first = probe()

    def late(command: Sequence[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"], output=first.model_dump_json().encode())

    monkeypatch.setattr(subprocess, "run", late)
    assert probe_memory([JOB, JOB], job_limit_s=30.0) == [
        first, ProbeFailure(reason="the probe's process was stopped after 180 s")
    ]  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks what is said without CUDA")
def test_without_a_device_the_real_process_says_so() -> None:
    (found,) = probe_memory([JOB])
    assert isinstance(found, ProbeFailure)
    assert not found.out_of_memory
    assert "NVIDIA" in found.reason or "CUDA" in found.reason


def test_what_is_known_of_a_gpu_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path))
    other = JOB.model_copy(update={"optimizer": "adamw"})
    asked: list[list[ProbeJob]] = []

    def prober(jobs: Sequence[ProbeJob]) -> list[Found]:
        asked.append(list(jobs))
        return [probe(job) if job == JOB else ProbeFailure(reason="no") for job in jobs]

    def ask(jobs: list[ProbeJob], model: str = "GPU A") -> list[Found]:
        return known_or_probed(jobs, model, probe=prober)

    assert ask([JOB]) == ask([JOB]) == [probe()]
    assert ask([other, JOB]) == [ProbeFailure(reason="no"), probe()]
    ask([other])  # a failure isn't kept
    ask([JOB], "GPU B")
    assert asked == [[JOB], [other], [other], [JOB]]
    assert ask([]) == []

    for path in (tmp_path / "packing").glob("*.json"):
        path.write_text("{", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert ask([JOB]) == [probe()]
    assert "is damaged and is measured again" in caplog.text


class FakeGpu:
    """NVML's view: what the device has in use now, and of it this process, where that is told."""

    device_bytes: int | None = 900 * MIB
    process_bytes: int | None = None

    def __init__(self, uuid: str) -> None:
        pass

    def read(self) -> "FakeGpu":
        return self


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> type[FakeGpu]:
    """A device of 8 GiB, 2 of them in use, of which torch has reserved 1 GiB; 900 MiB were in use before."""
    kind = type("Gpu", (FakeGpu,), {})
    monkeypatch.setattr("hkbench.training.memory_probe.Gpu", kind)
    monkeypatch.setattr("hkbench.training.memory_probe.cuda_uuid", lambda index: "GPU-1")
    properties = type("Properties", (), {"total_memory": 8 * GIB})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: GIB)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (6 * GIB, 8 * GIB))
    return kind


def test_the_context_is_the_process_less_torchs_part(device: type[FakeGpu]) -> None:
    memory = CudaMemory()
    assert memory.total_bytes == 8 * GIB
    device.process_bytes = GIB + 450 * MIB
    assert memory.context_bytes() == 450 * MIB


def test_where_processes_are_not_told_apart_it_is_what_the_device_has_more(device: type[FakeGpu]) -> None:
    memory = CudaMemory()
    device.device_bytes = 900 * MIB + GIB + 500 * MIB
    assert memory.context_bytes() == 500 * MIB
    device.device_bytes = None
    assert memory.context_bytes() == GIB  # of the 2 GiB in use


@pytest.mark.gpu
def test_a_real_device_is_probed_and_nothing_stays_on_it() -> None:
    jobs = [
        ProbeJob(
            architecture=Architecture(model="mobilenet_v2", image_size=64), classes=69, batch_sizes=sizes
        )
        for sizes in ((32, 64), (128, 256))
    ]
    used = CudaMemory(0)._used()
    small, large = probe_memory(jobs)
    assert isinstance(small, MemoryProbe)
    assert isinstance(large, MemoryProbe)
    assert 100 * MIB < small.context_bytes < 2 * GIB
    model = MemoryModel.fitted(small)
    measured = large.peaks[1].reserved_bytes
    assert measured <= 1.1 * peak(model, 256, image_size=64) <= 1.5 * measured
    after = CudaMemory(0)._used()
    if used is not None and after is not None:
        assert after - used < 64 * MIB


@pytest.mark.gpu
def test_a_real_limit_holds_and_its_error_is_understood() -> None:
    device = torch.device("cuda")
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        limit_memory(device, 256 * MIB / total)
        with pytest.raises(torch.OutOfMemoryError) as caught:
            torch.empty(512 * MIB, dtype=torch.uint8, device=device)
        found = out_of_memory_of(caught.value)
        assert found is not None
        assert found.asked_bytes == 512 * MIB
        held = torch.empty(128 * MIB, dtype=torch.uint8, device=device)
        assert peak_reserved_bytes(device) == held.nbytes
    finally:
        limit_memory(device, 1.0)
