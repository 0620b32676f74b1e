"""The records of a run directory, each a line or a file of JSON with a schema version.

Missing is null, never 0. Every optional field that can't be had says why in `reason` or `gpu_reason`.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 1

Metrics = dict[str, float]
"""Metric name → value. Names: accuracy, top5, balanced_accuracy, macro_f1, calibration_error (shares in
[0, 1]) and log_loss (in nats); records made before there were six lack some."""


class Record(BaseModel):
    """What all records share: they are frozen, carry a schema version and refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA


class SplitRecord(Record):
    """The parts of a data set that a run used."""

    scheme: str
    seed: int
    hash: str
    train: int
    validation: int
    test: int


class DataRecord(Record):
    """The pictures of a run; `rejected` holds each bad one's id and the reason.

    `views` is the number of augmented views of each picture of the train part, `teachers` the SHA-256 of each
    teacher's weights.
    """

    name: str
    fingerprint: str
    classes: list[str]
    pictures: int
    rejected: list[tuple[str, str]] = Field(default_factory=list)
    split: SplitRecord
    views: int | None = None
    teachers: list[str] = Field(default_factory=list)


class RunStart(Record):
    """One start of a search: when, by which command, and what of its configuration changed with it."""

    started: str
    command: list[str]
    changes: list[str] = Field(default_factory=list)


class RunRecord(Record):
    """`run.json`: what was asked for, where it ran and how it ended; `command` is the last of its
    `history`.
    """

    name: str
    kind: Literal["search", "train"]
    command: list[str]
    created: str
    status: Literal["running", "finished", "interrupted", "failed"] = "running"
    finished: str | None = None
    config: dict[str, Any]
    objectives: dict[str, Literal["maximize", "minimize"]] = Field(default_factory=dict)
    data: DataRecord | None = None
    versions: dict[str, str]
    hardware: dict[str, Any]
    git: dict[str, Any] | None = None
    phase_seconds: dict[str, float] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
    history: list[RunStart] = Field(default_factory=list)


class Usage(Record):
    """What a piece of work cost, whole process, from its start to its end."""

    seconds: float
    cpu_seconds: float | None = None
    peak_rss_bytes: int | None = None
    gpu_seconds: float | None = None
    peak_gpu_bytes: int | None = None
    energy_j: float | None = None
    gpu_reason: str | None = None


class TrialRecord(Record):
    """`trials.jsonl`: one point of the space as it ended; the last line of a number counts.

    `confirms` is the number of the trial that this one trains again from a fresh seed; None for one of the
    search itself. `failures` says why it was taken up again from its checkpoint, once for each time.
    `gpu_share` is the part of a GPU that it held last, 1 for a whole one; None where GPUs weren't shared.
    """

    number: int
    state: Literal["COMPLETE", "PRUNED", "FAIL"]
    reason: str | None = None
    failures: list[str] = Field(default_factory=list)
    params: dict[str, Any]
    settings: dict[str, Any] = Field(default_factory=dict)
    seed_point: str | None = None
    thaws: int | None = None
    confirms: int | None = None
    model: str
    image_size: int
    loss: str
    weight_hard: float
    weight_soft: float
    loss_weights: dict[str, float] = Field(default_factory=dict)
    temperature: float | None = None
    epochs: int
    values: dict[str, float | None]
    metrics: Metrics = Field(default_factory=dict)
    constraints: dict[str, float] = Field(default_factory=dict)
    usage: Usage | None = None
    device: str | None = None
    gpu_share: float | None = None
    precision: str | None = None
    node: str | None = None
    started: str | None = None
    ended: str | None = None


class EpochRecord(Record):
    """`epochs.jsonl`: one trial's (or the teacher's) state after one epoch; (trial, epoch) is unique.

    `search_seconds` is what the search had taken until then, all its runs together.
    """

    trial: int | Literal["teacher"]
    epoch: int
    train_loss: float
    learning_rate: float
    seconds: float
    search_seconds: float | None = None
    metrics: Metrics


class PartMetrics(Record):
    """How one artifact did on one part, from its stored predictions.

    `intervals` are (low, high) of 95 % by metric, and of `cost_weighted_error` where that is there: the mean
    cost of an answer, for a run that has costs. `temperature` was fitted on validation, `calibrated_error` is
    the calibration error at that temperature; validation has neither. Records of earlier versions lack all.
    """

    part: Literal["validation", "test"]
    pictures: int
    metrics: Metrics
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    temperature: float | None = None
    calibrated_error: float | None = None
    cost_weighted_error: float | None = None


class AccuracyLoss(Record):
    """Accuracy of the float32 file less that of this one, on the same pictures, in [−1, 1]; of 95 %."""

    estimate: float
    low: float
    high: float


class QuantizationAttempt(Record):
    """One way to quantise that was tried: its figures on validation; latency is its layout's, at batch 1."""

    recipe: str
    size_bytes: int
    accuracy: float
    lost: AccuracyLoss
    latency_ms: float


class Quantization(Record):
    """How a float32 file became an int8 one: `recipe` is the one that was taken, `tried` all of them.

    `pictures` of the train part gave the ranges; `tuned_epochs` above 0 says that the network was trained
    on for so long with its rounding simulated. `float_latency_ms` was measured beside those of `tried`.
    """

    recipe: dict[str, Any]
    label: str
    pictures: int
    tuned_epochs: int = 0
    float_latency_ms: float
    tried: list[QuantizationAttempt] = Field(default_factory=list)


class Verification(Record):
    """What was found of the very file that lies there, before it got its name.

    `max_logit_difference` is against torch, at each of `batches`, over all pictures of the validation part;
    None for a file that isn't float32. `latency_ms` is the p50 at batch 1 with one thread.
    """

    sha256: str
    size_bytes: int
    pictures: int
    accuracy: float
    max_logit_difference: float | None = None
    batches: list[int]
    latency_ms: float | None = None
    latency_device: str | None = None
    verified: str


class ModelRecord(Record):
    """`models/<id>/model.json`: one exported file and where it came from. `files` are relative names.

    `twin_of` names the trial of the student that this one differs from by having had no teacher. From
    `architecture` the network that `model.safetensors` belongs to is built again. `size_bytes` counts all
    that the file needs, `unpacked_bytes` what its weights take once it is open, where that is more. `source`
    is the id of the float32 model that a narrower one was made from, `lost` what that cost; `source_sha256`
    is the hash of that model's file, or of the weights that a float32 file was made from. `licences` says
    what holds for the pictures, the code and the weights that training began with.
    """

    id: str
    role: Literal["student", "no-teacher", "teacher"]
    trial: int | None = None
    twin_of: int | None = None
    model: str
    image_size: int
    architecture: dict[str, Any] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)
    parameters: int
    precision: str = "fp32"
    sha256: str
    size_bytes: int
    unpacked_bytes: int | None = None
    opset: int | None = None
    files: dict[str, str] = Field(default_factory=dict)
    parts: list[PartMetrics] = Field(default_factory=list)
    epochs: int | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    licences: dict[str, str] = Field(default_factory=dict)
    source: str | None = None
    source_sha256: str | None = None
    lost: AccuracyLoss | None = None
    quantization: Quantization | None = None
    verified: Verification | None = None

    def part(self, name: str) -> PartMetrics | None:
        """Return how the file did on a part; None where it wasn't scored on it."""
        return next((found for found in self.parts if found.part == name), None)

    def accuracy(self, part: str) -> float:
        """Return the file's accuracy on a part that it was scored on."""
        return next(found.metrics["accuracy"] for found in self.parts if found.part == part)


class BenchmarkRecord(Record):
    """`benchmark.jsonl`: one artifact on one device at one batch; a row that failed says why."""

    model_id: str
    sha256: str | None
    size_bytes: int | None
    device: str
    device_model: str | None = None
    device_uuid: str | None = None
    runtime: str
    precision: str
    batch: int
    threads: int | None = None
    status: Literal["ok", "failed"]
    reason: str | None = None
    load_ms: float | None = None
    cold_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    samples: int = 0
    usage: Usage | None = None
    measured: str


class TelemetryRecord(Record):
    """`telemetry.jsonl`: what one stretch of work (a trial's epoch, a benchmark row) cost."""

    source: Literal["trial", "benchmark"]
    name: str
    epoch: int | None = None
    usage: Usage
    node: str | None = None
    device: str | None = None
    gpu_share: float | None = None
