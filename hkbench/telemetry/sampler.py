"""A thread beside a piece of work that notes what it costs."""

import threading
import time
from typing import Self

from hkbench.store.records import Usage
from hkbench.telemetry.host import read_host
from hkbench.telemetry.nvml import Gpu, NvmlUnavailableError
from hkbench.telemetry.tally import Reading, Tally


class Sampler:
    """Samples this process, and the GPU that it works on, while its one `with` block runs.

    CPU time and resident memory are this process's own. `gpu_seconds` is the integral of the device's
    utilization over time: NVML counts the kernels of all processes, so beside a neighbour on the same
    device it is an upper bound. `peak_gpu_bytes` is this process's memory where NVML tells it, else the
    whole device's, and `gpu_reason` says so. Peaks of GPU memory between two samples go unseen.

    Reading never raises: what can't be had is None, with the reason in `gpu_reason`.
    """

    _whole: Tally
    _lap: Tally

    def __init__(self, interval_s: float = 0.5, device_uuid: str | None = None) -> None:
        """Prepare to sample every `interval_s` seconds; no `device_uuid` means work on the CPU alone."""
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="hkbench-sampler", daemon=True)
        self._gpu: Gpu | None = None
        self._gpu_reason: str | None = None
        if device_uuid is None:
            self._gpu_reason = "the work was given no GPU"
        else:
            try:
                self._gpu = Gpu(device_uuid)
            except NvmlUnavailableError as missing:
                self._gpu_reason = str(missing)

    def __enter__(self) -> Self:
        self._begin()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._add()

    def usage(self) -> Usage:
        """Return the cost from the start until now, or until the end if that has come."""
        with self._lock:
            self._refresh()
            return self._whole.usage()

    def lap(self) -> Usage:
        """Return the cost since the last lap (the first: since the start) and begin the next."""
        with self._lock:
            self._refresh()
            done = self._lap
            self._lap = Tally(done.last, self._gpu_reason)
            return done.usage()

    def _begin(self) -> None:
        first = self._read()
        self._whole = Tally(first, self._gpu_reason)
        self._lap = Tally(first, self._gpu_reason)

    def _sample(self) -> None:
        while not self._ended.wait(self._interval_s):
            self._add()

    def _add(self) -> None:
        with self._lock:
            self._take()

    def _refresh(self) -> None:
        if not self._ended.is_set():
            self._take()

    def _take(self) -> None:
        reading = self._read()
        self._whole.add(reading)
        self._lap.add(reading)

    def _read(self) -> Reading:
        gpu = None if self._gpu is None else self._gpu.read()
        return Reading(moment_s=time.perf_counter(), host=read_host(), gpu=gpu)
