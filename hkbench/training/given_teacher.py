"""A teacher that the user names by its folder: one that was kept before, or a model of an earlier run."""

from collections.abc import Collection
from pathlib import Path

from hkbench.errors import UsageError
from hkbench.models.architecture import Architecture
from hkbench.store.digest import sha256_of
from hkbench.store.records import ModelRecord, RunRecord
from hkbench.store.rundir import RunDirectory
from hkbench.training.teacher import Teacher, TeacherRecipe, TeacherRecord, load_teacher


def open_teacher(folder: Path, *, classes: tuple[str, ...], split_hashes: Collection[str]) -> Teacher:
    """Open the teacher in `folder`: one with `teacher.json`, or `models/<id>` of a run directory.

    `split_hashes` are those of the whole split and, in a quick search, of the shortened one.

    Raises:
        UsageError: there is none, it tells other classes apart, or it was trained on another split: it may
            have seen pictures of the validation or the test part.
    """
    if (folder / "teacher.json").is_file():
        teacher = load_teacher(folder)
    elif (folder / "model.json").is_file():
        teacher = _of_run(folder)
    else:
        raise UsageError(
            f"{folder} holds no teacher: it has neither teacher.json nor model.json. Name models/<id> of a "
            "run."
        )
    found = teacher.record
    if tuple(found.classes) != classes:
        raise UsageError(f"The teacher in {folder} knows other classes ({len(found.classes)}) than the data.")
    if found.split_hash not in split_hashes:
        raise UsageError(
            f"The teacher in {folder} was trained on another split ({found.split_hash[:12]}), so it may have "
            "seen pictures that students are judged by."
        )
    return teacher


def _of_run(folder: Path) -> Teacher:
    run = RunDirectory.open(folder.parent.parent)
    record: RunRecord = run.read_run()
    model = next((each for each in run.model_records() if each.id == folder.name), None)
    weights = folder / "model.safetensors"
    if model is None or record.data is None or not model.architecture or not weights.is_file():
        raise UsageError(f"{folder} lacks what a teacher needs: model.safetensors and its architecture.")
    return Teacher(weights=weights, record=_record(model, record, weights), shipped=False)


def _record(model: ModelRecord, run: RunRecord, weights: Path) -> TeacherRecord:
    assert run.data is not None
    architecture = Architecture.model_validate(model.architecture)
    validation = next(part.metrics for part in model.parts if part.part == "validation")
    return TeacherRecord(
        recipe=TeacherRecipe(model=architecture.model, image_size=architecture.image_size),
        architecture=architecture,
        weights="none",
        data=run.data.name,
        fingerprint=run.data.fingerprint,
        split_hash=run.data.split.hash,
        classes=run.data.classes,
        validation=validation,
        best_epoch=model.epochs or 0,
        epochs=[],
        seconds=0.0,
        sha256=sha256_of(weights),
        created=run.created,
    )
