"""Bytes of the int8 files that are chosen, against the float32 files, both with all their metadata."""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.claim import Claim, main
from benchmarks.int8_students import (
    Pair,
    open_parts,
    open_student,
    shipped,
    student_names,
    this_machine,
)

TARGET = 0.30
LIMIT = 0.25
"""One byte for each weight instead of four."""
SMALLEST, LARGEST = 100_000, 5_000_000
"""Bytes of the float32 files that the claim is about; in smaller ones the graph and the labels outweigh."""


def measure(quick: bool) -> Claim:
    """Publish both files of each student and compare their sizes."""
    parts = open_parts()
    rows = {}
    for name in student_names(quick=quick):
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = _row(shipped(open_student(name), parts, Path(folder), quick=quick))
    return claim_of(rows, quick=quick)


def claim_of(rows: dict[str, dict[str, Any]], **details: Any) -> Claim:
    """Return the claim that rows make: the greatest ratio among files of the sizes that it is about."""
    value = max(row["ratio"] for row in rows.values() if row["counts"])
    return Claim(
        name="int8_size",
        value=value,
        unit="of the float32 file's bytes, the greatest of the students",
        target=f"at most {TARGET:.2f} (limit {LIMIT})",
        holds=value <= TARGET,
        details={"students": rows, **details, **this_machine()},
    )


def _row(pair: Pair) -> dict[str, Any]:
    """Return both sizes; where no int8 file is shipped, the float32 file is, and nothing is saved."""
    fp32 = pair.float32.verified.size_bytes
    int8 = None if pair.int8 is None else pair.int8.verified.size_bytes
    return {
        "fp32_bytes": fp32,
        "int8_bytes": int8,
        "ratio": (fp32 if int8 is None else int8) / fp32,
        "counts": SMALLEST <= fp32 <= LARGEST,
        "recipe": pair.choice.best.recipe.label,
        "refused": pair.refused,
    }


if __name__ == "__main__":
    main(measure)
