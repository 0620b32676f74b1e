"""What passes between a benchmark and the process of one of its rows, as JSON."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from hkbench.store.records import Usage


class RowJob(BaseModel):
    """What one row asks its process to measure.

    With `energy_seconds` it is what a call takes from the energy counter of the GPU, in stretches of so many
    seconds; without, it is latency, and the process's own cost.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    runtime: str
    device: str
    device_uuid: str | None
    batch: PositiveInt
    threads: PositiveInt
    time_limit_s: PositiveFloat
    energy_seconds: PositiveFloat | None = None


class RowResult(BaseModel):
    """What the process has measured; the fields are `BenchmarkRecord`'s.

    `alone` is False where a training on the device didn't pause for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    load_ms: float
    cold_ms: float
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    samples: int
    usage: Usage
    alone: bool


class EnergyResult(BaseModel):
    """Millijoules a call above idle, the watts of the idle device, and how many calls that took."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    energy_mj: float
    idle_w: float
    calls: int
    alone: bool
