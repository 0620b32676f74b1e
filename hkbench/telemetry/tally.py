"""Readings of one stretch of work, summed up. Pure: the moments come with the readings."""

from dataclasses import dataclass

from hkbench.store.records import Usage
from hkbench.telemetry.host import HostReading
from hkbench.telemetry.nvml import GpuReading

ENERGY_SECONDS = 5.0
"""The energy counter moves every 20 to 100 ms; over a shorter stretch its difference says little."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The host and, where there is one, the GPU; `moment_s` is of a clock whose start means nothing."""

    moment_s: float
    host: HostReading
    gpu: GpuReading | None


class Tally:
    """The cost of a stretch of work between its first reading and its last."""

    def __init__(self, first: Reading, gpu_reason: str | None) -> None:
        """Begin with `first`; `gpu_reason` says why there are no GPU readings, None if there are."""
        self.last = first
        self._first = first
        self._peak_rss_bytes = first.host.rss_bytes
        self._gpu_seconds: float | None = None if first.gpu is None else 0.0
        self._peak_gpu_bytes: int | None = None
        self._reasons = [] if gpu_reason is None else [gpu_reason]
        self._see_gpu(first, seconds=0.0)

    def add(self, reading: Reading) -> None:
        """Take in the next reading, in the order of time."""
        self._peak_rss_bytes = max(self._peak_rss_bytes, reading.host.rss_bytes)
        self._see_gpu(reading, seconds=reading.moment_s - self.last.moment_s)
        self.last = reading

    def usage(self) -> Usage:
        """Return what the stretch has cost up to its last reading."""
        energy_j, energy_reason = self._energy()
        reasons = self._reasons if energy_reason is None else [*self._reasons, energy_reason]
        return Usage(
            seconds=self._seconds(),
            cpu_seconds=self.last.host.cpu_seconds - self._first.host.cpu_seconds,
            peak_rss_bytes=self._peak_rss(),
            gpu_seconds=self._gpu_seconds,
            peak_gpu_bytes=self._peak_gpu_bytes,
            energy_j=energy_j,
            gpu_reason="; ".join(reasons) or None,
        )

    def _seconds(self) -> float:
        return self.last.moment_s - self._first.moment_s

    def _peak_rss(self) -> int:
        # The high-water mark is the process's, older than this stretch: it is this stretch's peak, between
        # two samples too, only if it has risen since.
        before, after = self._first.host.high_water_bytes, self.last.host.high_water_bytes
        if before is None or after is None or after <= before:
            return self._peak_rss_bytes
        return max(after, self._peak_rss_bytes)

    def _see_gpu(self, reading: Reading, seconds: float) -> None:
        gpu = reading.gpu
        if gpu is None:
            return
        self._reasons += [reason for reason in gpu.missing if reason not in self._reasons]
        if gpu.utilization is None:
            self._gpu_seconds = None
        elif self._gpu_seconds is not None:
            self._gpu_seconds += gpu.utilization * seconds
        used = gpu.device_bytes if gpu.process_bytes is None else gpu.process_bytes
        if used is not None:
            self._peak_gpu_bytes = max(used, self._peak_gpu_bytes or 0)

    def _energy(self) -> tuple[float | None, str | None]:
        if self._first.gpu is None or self.last.gpu is None:
            return None, None
        before, after = self._first.gpu.energy_j, self.last.gpu.energy_j
        if before is None or after is None:
            return None, None
        if self._seconds() < ENERGY_SECONDS:
            return None, f"energy: the counter needs {ENERGY_SECONDS:g} s, this took {self._seconds():.1f} s"
        return after - before, None


def total_usage(parts: list[Usage]) -> Usage | None:
    """Add up what consecutive stretches of work cost; peaks are the highest, missing stays null."""
    if not parts:
        return None

    def added(name: str) -> float | None:
        values = [getattr(part, name) for part in parts if getattr(part, name) is not None]
        return sum(values) if values else None

    def highest(name: str) -> int | None:
        return max((getattr(part, name) for part in parts if getattr(part, name) is not None), default=None)

    return Usage(
        seconds=sum(part.seconds for part in parts),
        cpu_seconds=added("cpu_seconds"),
        peak_rss_bytes=highest("peak_rss_bytes"),
        gpu_seconds=added("gpu_seconds"),
        peak_gpu_bytes=highest("peak_gpu_bytes"),
        energy_j=added("energy_j"),
        gpu_reason=parts[-1].gpu_reason,
    )
