"""The end of a search: the frontier exported, checked, read on the test part once, and measured alone."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from safetensors.torch import save

from hkbench.analysis.evaluation import part_metrics
from hkbench.analysis.misclassification import MisclassificationCosts, load_costs
from hkbench.analysis.predictions import PredictionBlock, write_predictions
from hkbench.analysis.trials import frontier_numbers, is_feasible
from hkbench.benchmark.run import benchmark_run
from hkbench.config import usable_cores
from hkbench.data.store import PictureStore
from hkbench.export.onnx import Artifact, check_export, export_onnx
from hkbench.export.session import OnnxClassifier
from hkbench.models.architecture import Architecture
from hkbench.models.build import build
from hkbench.models.classifier import Classifier
from hkbench.search.plan import SearchPlan
from hkbench.search.prepare import Prepared
from hkbench.search.space import Space
from hkbench.search.trial import Job
from hkbench.store.atomic import replacing, write_text
from hkbench.store.records import BenchmarkRecord, ModelRecord, PartMetrics, TrialRecord
from hkbench.store.rundir import RunDirectory
from hkbench.training.checkpoint import load_checkpoint

CHECKED_PICTURES = 32
MEASURE_SECONDS = 5.0
TEACHER = "teacher"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finalist:
    """A network that is exported at the end, with what its record says of it."""

    id: str
    role: str
    network: Classifier
    architecture: Architecture
    epochs: int
    trial: TrialRecord | None = None
    twin_of: int | None = None


def best_student(trials: list[TrialRecord]) -> TrialRecord | None:
    """Return the most accurate complete, feasible trial that had a teacher; the smallest of equals."""
    taught = [trial for trial in trials if is_feasible(trial) and trial.weight_soft > 0]
    return max(
        taught,
        key=lambda trial: (trial.metrics["accuracy"], -(trial.values.get("artifact_bytes") or 0)),
        default=None,
    )


def twin_params(student: TrialRecord, space: Space) -> dict[str, object] | None:
    """Return the student's own point with hard labels for its teacher, or None if the space has no such."""
    name = next((name for name, found in space.parameters.items() if (found.sets or name) == "loss"), None)
    if name is None or not space.parameters[name].holds("hard"):
        return None
    wanted: dict[str, object] = {**student.params, name: "hard"}
    params: dict[str, object] = {}
    for each in space.order():
        if each in wanted and space.parameters[each].active(params):
            params[each] = wanted[each]
    return params


def twin_of(student: TrialRecord, space: Space, trials: list[TrialRecord]) -> TrialRecord | None:
    """Return the trial that differs from the student by its teacher alone, if it ran to its end."""
    params = twin_params(student, space)
    return next((trial for trial in trials if is_feasible(trial) and trial.params == params), None)


def finalists(plan: SearchPlan, prepared: Prepared, job: Job, run: RunDirectory) -> Iterator[Finalist]:
    """Yield the teacher, the frontier, the best student and its no-teacher twin, with trained weights."""
    for number, teacher in enumerate(prepared.teachers, start=1):
        record = teacher.record
        yield Finalist(
            id=TEACHER if number == 1 else f"{TEACHER}-{number}",
            role="teacher",
            network=teacher.network(),
            architecture=record.structure,
            epochs=record.best_epoch,
        )
    trials = run.trials()
    best = frontier_numbers(trials, plan.space.objectives)
    chosen = {trial.number: trial for trial in trials if trial.number in best}
    student = best_student(trials)
    twin = None if student is None else twin_of(student, plan.space, trials)
    chosen |= {trial.number: trial for trial in (student, twin) if trial is not None}
    for number in sorted(chosen):
        trial = chosen[number]
        yield Finalist(
            id=f"trial-{number:03d}",
            role="student" if trial.weight_soft > 0 else "no-teacher",
            network=_trained(plan, job, trial),
            architecture=plan.space.settings(trial.params).architecture,
            epochs=trial.epochs,
            trial=trial,
            twin_of=student.number if student is not None and trial is twin else None,
        )


def _trained(plan: SearchPlan, job: Job, trial: TrialRecord) -> Classifier:
    settings = plan.space.settings(trial.params)
    network = build(settings.architecture, classes=len(job.shared.classes))
    state = load_checkpoint(job.checkpoint(trial.number))["training"]
    average = state["average"]
    if average is None:
        network.load_state_dict(state["network"])
    else:
        network.load_state_dict(
            {name.removeprefix("module."): value for name, value in average.items() if name != "n_averaged"}
        )
    return network.eval()


def ship(
    plan: SearchPlan,
    prepared: Prepared,
    job: Job,
    run: RunDirectory,
    advance: Callable[[int, int], None],
) -> list[ModelRecord]:
    """Export the finalists, score each file on validation and test, and write records and predictions."""
    records: list[ModelRecord] = []
    blocks: list[PredictionBlock] = []
    waiting = list(finalists(plan, prepared, job, run))
    costs = load_costs(plan.costs, prepared.shared.classes) if plan.costs is not None else None
    for done, finalist in enumerate(waiting, start=1):
        store = prepared.stores[finalist.architecture.image_size]
        artifact = _export(finalist, store, prepared, run)
        scored = list(_score(finalist.id, artifact.path, store, prepared))
        record = _record(finalist, artifact, scored, costs)
        run.write_model(record)
        records.append(record)
        blocks.extend(scored)
        advance(done, len(waiting))
    write_predictions(run.predictions, blocks)
    return records


def _export(finalist: Finalist, store: PictureStore, prepared: Prepared, run: RunDirectory) -> Artifact:
    folder = run.models / finalist.id
    state = {name: tensor.contiguous() for name, tensor in finalist.network.state_dict().items()}
    with replacing(folder / "model.safetensors") as temporary:
        temporary.write_bytes(save(state))
    write_text(folder / "labels.txt", "\n".join(store.classes) + "\n")
    artifact = export_onnx(
        finalist.network,
        folder / "model.onnx",
        image_size=finalist.architecture.image_size,
        labels=store.classes,
        metadata={"split": prepared.split.hash},
    )
    rows = prepared.split.validation
    spread = rows[np.linspace(0, len(rows) - 1, CHECKED_PICTURES).astype(np.int64)]
    check_export(artifact, finalist.network, store.pictures[spread])
    return artifact


def _score(model_id: str, path: Path, store: PictureStore, prepared: Prepared) -> Iterator[PredictionBlock]:
    classifier = OnnxClassifier(path, threads=usable_cores())
    for part, rows in (("validation", prepared.split.validation), ("test", prepared.split.test)):
        yield PredictionBlock(
            model_id=model_id,
            part=part,
            picture_ids=[store.ids[row] for row in rows],
            groups=[store.groups[row] for row in rows] if store.groups is not None else None,
            labels=store.labels[rows],
            logits=classifier.logits(store.pictures[rows]).astype(np.float16),
        )


def _record(
    finalist: Finalist,
    artifact: Artifact,
    blocks: list[PredictionBlock],
    costs: MisclassificationCosts | None,
) -> ModelRecord:
    return ModelRecord.model_validate(
        {
            "id": finalist.id,
            "role": finalist.role,
            "trial": finalist.trial.number if finalist.trial else None,
            "twin_of": finalist.twin_of,
            "model": finalist.architecture.label,
            "image_size": finalist.architecture.image_size,
            "architecture": finalist.architecture.resolved().model_dump(exclude_none=True),
            "params": finalist.trial.params if finalist.trial else {},
            "parameters": artifact.parameters,
            "sha256": artifact.sha256,
            "size_bytes": artifact.size_bytes,
            "opset": artifact.opset,
            "files": {"onnx": "model.onnx", "safetensors": "model.safetensors", "labels": "labels.txt"},
            "epochs": finalist.epochs,
            "parts": _parts(blocks, costs),
        }
    )


def _parts(blocks: list[PredictionBlock], costs: MisclassificationCosts | None) -> list[PartMetrics]:
    """Score each part; the calibration of the test part is corrected by what validation says."""
    validation = next(block for block in blocks if block.part == "validation")
    return [
        part_metrics(block, calibration=validation if block.part == "test" else None, costs=costs)
        for block in blocks
    ]


def measure(
    plan: SearchPlan, run: RunDirectory, advance: Callable[[int, int], None]
) -> list[BenchmarkRecord]:
    """Measure every exported file on the CPU, and on the GPU that trained it, alone on the machine."""
    return benchmark_run(
        run,
        devices=list(dict.fromkeys(["cpu", plan.device])),
        batches=(1,),
        threads=1,
        time_limit_s=MEASURE_SECONDS,
        advance=advance,
    )


def weak_teacher(models: list[ModelRecord]) -> list[str]:
    """Warn where the teacher is no better on validation than the best student that had none."""
    accuracy = {
        role: max((model.accuracy("validation") for model in models if model.role == role), default=None)
        for role in ("teacher", "no-teacher")
    }
    teacher, alone = accuracy["teacher"], accuracy["no-teacher"]
    if teacher is None or alone is None or teacher > alone:
        return []
    return [
        "The teacher is no better on validation than the best student that learned without one: "
        f"{teacher:.1%} against {alone:.1%} accuracy. Distilling from it can't be expected to help."
    ]
