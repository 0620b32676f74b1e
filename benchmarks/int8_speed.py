"""Latency of trained students as torch runs them, as float32 ONNX files and in int8, one thread, in turns."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.claim import Claim, main
from benchmarks.int8_students import (
    STUDENTS,
    Student,
    chosen,
    float_logits,
    open_parts,
    open_student,
    this_machine,
)
from hkbench.benchmark.turns import in_turns
from hkbench.export.onnx import content_of
from hkbench.export.quantize.calibrate import FEWEST_PICTURES
from hkbench.export.quantize.int8 import Quantizer
from hkbench.export.quantize.recipe import LAYOUTS, Recipe
from hkbench.export.session import PICTURES, open_session
from hkbench.models.architecture import Architecture
from hkbench.models.build import build
from hkbench.shipping.int8 import by_speed, time_layouts
from hkbench.shipping.parts import Parts

BATCHES = (1, 32)
TARGET = 4
LEAST_SPEEDUP = 1.3
RATIOS = {"eager/fp32": ("eager", "fp32"), "fp32/int8": ("fp32", "int8")}
SECONDS, QUICK_SECONDS = 5.0, 0.4


@dataclass(frozen=True, kw_only=True)
class Narrowed:
    """A student's int8 file: its content, how it was made, and whether it would be shipped."""

    content: bytes
    recipe: str
    ships: bool


def measure(quick: bool) -> Claim:
    """Time three forms of each student at batch 1 and 32; quick ones get the fastest layout, unscored."""
    parts = None if quick else open_parts()
    seconds = QUICK_SECONDS if quick else SECONDS
    rows = {name: _row(open_student(name), parts, seconds) for name in STUDENTS}
    return claim_of(rows, quick=quick, seconds_a_batch=seconds)


def claim_of(rows: dict[str, dict[str, Any]], **details: Any) -> Claim:
    """Return the claim that rows make: how many students reach both ratios at both batches."""
    value = sum(row["reached"] for row in rows.values())
    return Claim(
        name="int8_speed",
        value=value,
        unit=f"students of {len(rows)} at least {LEAST_SPEEDUP} times as fast, eager to fp32, fp32 to int8",
        target=f"at least {TARGET} of 6",
        holds=value >= TARGET,
        details={"students": rows, **details, **this_machine()},
    )


def row_of(recipe: str, ships: bool, medians: dict[int, dict[str, float]]) -> dict[str, Any]:
    """Return a student's row from the median ms of each form at each batch."""
    batches = {
        f"batch {batch}": {
            **{f"{form}_ms": value for form, value in found.items()},
            **{ratio: found[slow] / found[fast] for ratio, (slow, fast) in RATIOS.items()},
        }
        for batch, found in medians.items()
    }
    fast = all(each[ratio] >= LEAST_SPEEDUP for each in batches.values() for ratio in RATIOS)
    return {"recipe": recipe, "ships": ships, **batches, "reached": ships and fast}


def _row(student: Student, parts: Parts | None, seconds: float) -> dict[str, Any]:
    narrowed = _fastest(student) if parts is None else _chosen(student, parts)
    with _one_thread():
        medians = {batch: in_turns(_calls(student, narrowed.content, batch), seconds) for batch in BATCHES}
    return row_of(narrowed.recipe, narrowed.ships, medians)


def _chosen(student: Student, parts: Parts) -> Narrowed:
    choice = chosen(student, float_logits(student, parts.pictures("validation")), parts)
    return Narrowed(
        content=content_of(choice.best.model), recipe=choice.best.recipe.label, ships=choice.passed
    )


def _fastest(student: Student) -> Narrowed:
    """Return the fastest layout, calibrated on noise: how fast a file is doesn't depend on its numbers."""
    size = student.record.image_size
    noise = np.random.default_rng(0).integers(0, 256, (FEWEST_PICTURES, 3, size, size), dtype=np.uint8)
    float_logits(student, noise)
    quantizer = Quantizer(student.model, noise)
    latencies = time_layouts(quantizer, student.model, size)
    recipe = Recipe(layout=by_speed({layout: latencies[layout] for layout in LAYOUTS})[0])
    return Narrowed(content=content_of(quantizer.quantized(recipe)), recipe=recipe.label, ships=True)


def _calls(student: Student, narrow: bytes, batch: int) -> dict[str, Callable[[], object]]:
    """Return one inference of noise in each form."""
    size = student.record.image_size
    noise = np.random.default_rng(0).random((batch, 3, size, size), dtype=np.float32)
    fp32, int8 = (open_session(content, threads=1) for content in (content_of(student.model), narrow))
    return {
        "eager": _eager(student, noise),
        "fp32": lambda: fp32.run(None, {PICTURES: noise}),
        "int8": lambda: int8.run(None, {PICTURES: noise}),
    }


def _eager(student: Student, noise: Any) -> Callable[[], object]:
    """Return a call of the student's network in torch; new weights take as long as trained ones."""
    classes = student.model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value
    network = build(Architecture.model_validate(student.record.architecture), classes=classes, seed=0).eval()
    pictures = torch.from_numpy(noise).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def call() -> object:
        return network(pictures)

    return call


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    main(measure)
