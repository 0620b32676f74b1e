"""What passes between a benchmark and the process of one of its rows, as JSON."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from hkbench.store.records import Usage


class RowJob(BaseModel):
    """What one row asks its process to measure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    runtime: str
    device: str
    device_uuid: str | None
    batch: PositiveInt
    threads: PositiveInt
    time_limit_s: PositiveFloat


class RowResult(BaseModel):
    """What the process has measured; the fields are `BenchmarkRecord`'s."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    load_ms: float
    cold_ms: float
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    samples: int
    usage: Usage
