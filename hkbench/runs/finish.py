"""The end of a search: the frontier exported, checked, read on the test part once, and measured alone."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial

from hkbench.analysis.misclassification import load_costs
from hkbench.analysis.predictions import write_predictions
from hkbench.analysis.trials import frontier_numbers, is_feasible
from hkbench.benchmark.run import benchmark_run
from hkbench.driver.plan import SearchPlan
from hkbench.export.onnx import RejectedError
from hkbench.runs.prepare import Prepared
from hkbench.shipping.facts import licences_of
from hkbench.shipping.float32 import BOTH_PARTS, Finalist, Shipped, finalist_of, ship_float
from hkbench.shipping.latency import note_latency
from hkbench.shipping.narrow import ship_narrow
from hkbench.shipping.parts import Parts
from hkbench.shipping.tune import tune
from hkbench.spaces.space import Space
from hkbench.store.records import BenchmarkRecord, ModelRecord, TrialRecord
from hkbench.store.rundir import RunDirectory
from hkbench.training.teacher import Teacher
from hkbench.trials.trial import Job

MEASURE_SECONDS = 5.0
TEACHER = "teacher"


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


def chosen_trials(space: Space, trials: list[TrialRecord]) -> dict[int, TrialRecord]:
    """Return the trials that are shipped, by number: the frontier, the best student and its twin."""
    best = frontier_numbers(trials, space.objectives)
    chosen = {trial.number: trial for trial in trials if trial.number in best}
    student = best_student(trials)
    twin = None if student is None else twin_of(student, space, trials)
    return chosen | {trial.number: trial for trial in (student, twin) if trial is not None}


def finalists(
    plan: SearchPlan, prepared: Prepared, job: Job, run: RunDirectory
) -> Iterator[tuple[Finalist, str]]:
    """Yield the teacher, the frontier, the best student and its no-teacher twin, each with its precision."""
    data = prepared.data_record()
    for number, teacher in enumerate(prepared.teachers, start=1):
        yield _teacher(number, teacher, data.name), "fp32"
    trials = run.trials()
    chosen = chosen_trials(plan.space, trials)
    student = best_student(trials)
    twin = None if student is None else twin_of(student, plan.space, trials)
    for number in sorted(chosen):
        trial = chosen[number]
        settings = plan.space.settings(trial.params)
        finalist = finalist_of(trial, settings.architecture, job.checkpoint(number), data)
        twin_number = student.number if student is not None and trial is twin else None
        yield dataclasses.replace(finalist, twin_of=twin_number), settings.precision


def _teacher(number: int, teacher: Teacher, data: str) -> Finalist:
    record = teacher.record
    return Finalist(
        id=TEACHER if number == 1 else f"{TEACHER}-{number}",
        role="teacher",
        network=teacher.network(),
        architecture=record.structure,
        epochs=record.best_epoch,
        training={"epochs": record.best_epoch, "weights": record.weights},
        licences=licences_of(data, record.structure.model, record.weights),
    )


def ship(
    plan: SearchPlan,
    prepared: Prepared,
    job: Job,
    run: RunDirectory,
    advance: Callable[[int, int], None],
) -> list[str]:
    """Put the finalists' files into the run, each checked and scored, on the test part this once.

    A finalist that is to be narrower is shipped in float32 as well, which the narrower file is compared with,
    and which stays alone where that loses too much accuracy or fails its check. Returned are warnings of what
    could not be shipped as it was asked to be.
    """
    shipped: list[Shipped] = []
    warnings: list[str] = []
    waiting = list(finalists(plan, prepared, job, run))
    costs = load_costs(plan.costs, prepared.shared.classes) if plan.costs is not None else None
    for done, (finalist, precision) in enumerate(waiting, start=1):
        size = finalist.architecture.image_size
        parts = Parts(store=prepared.stores[size], split=prepared.split)
        whole = ship_float(finalist, parts, run, costs=costs)
        shipped.append(whole)
        if precision != "fp32":
            tuning = partial(tune, run, whole.record, parts, policy=plan.space.augmentation)
            try:
                shipped.append(
                    ship_narrow(
                        whole.record, precision, parts, run, tune=tuning, read=BOTH_PARTS, costs=costs
                    )
                )
            except RejectedError as error:
                warnings.append(f"{finalist.id} is shipped in fp32: {error}")
        advance(done, len(waiting))
    write_predictions(run.predictions, [block for each in shipped for block in each.blocks])
    return warnings


def measure(
    plan: SearchPlan, run: RunDirectory, advance: Callable[[int, int], None]
) -> list[BenchmarkRecord]:
    """Measure every exported file on the CPU, and on the GPU that trained it, alone on the machine."""
    rows = benchmark_run(
        run,
        devices=list(dict.fromkeys(["cpu", plan.device])),
        batches=(1,),
        threads=1,
        time_limit_s=MEASURE_SECONDS,
        advance=advance,
    )
    on_cpu = {row.sha256: row for row in rows if row.device == "cpu"}
    for record in run.model_records():
        note_latency(run, record, on_cpu[record.sha256])
    return rows


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
