"""What the int8 benchmarks share: six trained students, their int8 files, and what machine it is.

The students' files were exported before float graphs were streamlined, so each is streamlined here, and the
float32 file that int8 is compared with is the one that today's export would write.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.claim import machine
from hkbench.data.build import build_store
from hkbench.data.sources import open_source
from hkbench.data.splits import load_split
from hkbench.errors import HkbenchError
from hkbench.export.onnx import RejectedError, allowed_difference, content_of
from hkbench.export.quantize.recipe import Layout, Recipe, recipes_of
from hkbench.export.rewrite import streamline
from hkbench.export.session import open_session, session_logits
from hkbench.shipping.facts import file_metadata, licences_of, training_of
from hkbench.shipping.gate import accuracy_lost, said
from hkbench.shipping.int8 import Choice, choose_int8
from hkbench.shipping.parts import SCORED_BATCH, Parts, scoring_threads
from hkbench.shipping.publish import Published, publish
from hkbench.store.environment import versions
from hkbench.store.records import AccuracyLoss, ModelRecord
from hkbench.store.rundir import RunDirectory

DATA, SIZE, SCHEME = "goods69", 64, "random"
MODEL_ID = "trial-000"
RESULTS = Path(__file__).parents[1] / "results"
STUDENTS = {
    "cut2": RESULTS / "cuts" / "cut2",
    "cut3": RESULTS / "cuts" / "cut3",
    "baseline_cnn": RESULTS / "models" / "baseline_cnn",
    "cut4": RESULTS / "cuts" / "cut4",
    "household": RESULTS / "models" / "household",
    "squeezenet1_1": RESULTS / "models" / "squeezenet1_1",
}
"""Name → run directory, the smallest first."""
QUICK_STUDENTS = 3
VNNI = {"avx512_vnni", "avx_vnni"}


@dataclass(frozen=True, kw_only=True)
class Student:
    """A trained student: its file as it lies in its run, and the float32 model that would be exported now.

    `model` is streamlined and has no metadata; `training` and `licences` are what its file says of both.
    """

    name: str
    record: ModelRecord
    training: Mapping[str, Any]
    licences: Mapping[str, str]
    stored: onnx.ModelProto
    model: onnx.ModelProto


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A student's float32 file and its int8 file, both with all their metadata.

    `int8` is None where no int8 file would be shipped; `refused` says why.
    """

    choice: Choice
    float32: Published
    int8: Published | None
    refused: str | None


def student_names(*, quick: bool) -> list[str]:
    """Return the students' names, the smallest first; `quick` takes three of them."""
    return list(STUDENTS)[: QUICK_STUDENTS if quick else None]


def open_parts() -> Parts:
    """Return the pictures that the students were trained and judged on, from the user's cache."""
    store = build_store(open_source(DATA), SIZE)
    return Parts(store=store, split=load_split(store, SCHEME))


def open_student(name: str) -> Student:
    """Return a student by its name.

    Raises:
        HkbenchError: its run doesn't hold the model.
    """
    run = RunDirectory.open(STUDENTS[name])
    record = next((each for each in run.model_records() if each.id == MODEL_ID), None)
    data, trials = run.read_run().data, run.trials()
    if record is None or data is None or not trials:
        raise HkbenchError(f"{run.path} doesn't hold {MODEL_ID} with its trial: restore it from git.")
    stored = onnx.load(run.models / record.id / record.files["onnx"])
    return Student(
        name=name,
        record=record,
        training=training_of(trials[-1], next(iter(data.teachers), None)),
        licences=licences_of(data.name, record.architecture["model"], trials[-1].settings.get("weights")),
        stored=stored,
        model=streamlined(stored),
    )


def streamlined(stored: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 file's model as it is exported now, without metadata; `stored` isn't changed."""
    model = onnx.shape_inference.infer_shapes(stored)
    streamline(model)
    del model.graph.value_info[:], model.metadata_props[:]
    return model


def float_logits(student: Student, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what the streamlined model answers on pictures: float32 (N, classes).

    Raises:
        HkbenchError: its logits aren't the stored file's, by more than a thousandth of the greatest.
    """
    expected, found = (
        session_logits(
            open_session(content_of(model), threads=scoring_threads()), pictures, batch=SCORED_BATCH
        )
        for model in (student.stored, student.model)
    )
    difference, allowed = float(np.abs(found - expected).max()), allowed_difference(expected)
    if not difference <= allowed:  # so that a NaN fails too
        raise HkbenchError(
            f"{student.name}, streamlined, gives other logits than its stored file: they differ by "
            f"{difference:.3g}, where {allowed:.3g} is allowed. Look at what `streamline` does to it."
        )
    return found


def chosen(student: Student, logits: NDArray[np.float32], parts: Parts, *, quick: bool = False) -> Choice:
    """Return the int8 file that hkbench chooses; `quick` tries few of the recipes.

    `logits` are what the float32 model answers on validation: float32 (N, classes).
    """
    recipes = _likeliest_alone if quick else None
    return choose_int8(student.model, logits, parts, _no_advance, recipes=recipes)


def shipped(student: Student, parts: Parts, folder: Path, *, quick: bool = False) -> Pair:
    """Choose a student's int8 file and write both files into `folder`, checked as they are when shipped.

    Raises:
        HkbenchError: the student was trained on another split than `parts`.
        RejectedError: the float32 file isn't what it should be.
    """
    metadata = {each.key: each.value for each in student.stored.metadata_props}
    if metadata.get("split") != parts.split.hash:
        raise HkbenchError(
            f"{student.name} was trained on the split {metadata.get('split')}, found {parts.split.hash}: "
            "it can't be judged on these pictures. Train it again."
        )
    expected = float_logits(student, parts.pictures("validation"))
    choice = chosen(student, expected, parts, quick=quick)
    float32 = _published(
        student, student.model, parts, folder, precision="fp32", source_sha256=student.record.sha256
    )
    if not choice.passed:
        return Pair(choice=choice, float32=float32, int8=None, refused=f"loses {said(choice.best.lost)}")
    try:
        narrow = _published(
            student,
            choice.best.model,
            parts,
            folder,
            precision="int8",
            source_sha256=float32.verified.sha256,
        )
    except RejectedError as error:
        return Pair(choice=choice, float32=float32, int8=None, refused=str(error))
    return Pair(choice=choice, float32=float32, int8=narrow, refused=None)


def _published(
    student: Student,
    model: onnx.ModelProto,
    parts: Parts,
    folder: Path,
    *,
    precision: str,
    source_sha256: str,
) -> Published:
    """Write a file with all that it would carry.

    The hash of the torch weights, which aren't kept, is as long as that of the stored file in its place.
    """
    described = onnx.ModelProto()
    described.CopyFrom(model)
    return publish(
        described,
        folder / f"{student.name}-{precision}.onnx",
        name=student.record.model,
        parts=parts,
        metadata=file_metadata(
            split_hash=parts.split.hash,
            precision=precision,
            source_sha256=source_sha256,
            training=student.training,
            licences=student.licences,
        ),
    )


def loss_of(before: NDArray[np.float32], after: NDArray[np.float32], parts: Parts) -> AccuracyLoss:
    """Return what validation accuracy lost from one file's logits to another's."""
    return accuracy_lost(before, after, parts.labels("validation"))


def this_machine() -> dict[str, Any]:
    """Return what an int8 figure belongs to: the machine, ONNX Runtime and whether the processor has VNNI."""
    facts = machine(threads=1)
    runtime = {"onnxruntime": versions()["onnxruntime"]}
    return {**facts, "versions": {**facts["versions"], **runtime}, "vnni": has_vnni()}


def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool | None:
    """Whether the processor multiplies bytes in one instruction; None where the system doesn't say."""
    if not cpuinfo.is_file():
        return None
    return not VNNI.isdisjoint(cpuinfo.read_text().split())


def _no_advance(_: int, __: int) -> None:
    """Nobody watches a benchmark's progress."""


def _likeliest_alone(layout: Layout) -> list[Recipe]:
    """Return a sixth of a layout's recipes: the slower calibrators take most of the time."""
    return [recipe for recipe in recipes_of(layout) if recipe.per_channel and recipe.calibrator == "minmax"]
