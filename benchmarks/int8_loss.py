"""Validation accuracy that trained students lose from their float32 file to the int8 file that is chosen.

The recipe was chosen by these very pictures, so the figure flatters a little; the test part, in the details,
had no say in it.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.claim import Claim, main
from benchmarks.int8_students import (
    Pair,
    loss_of,
    open_parts,
    open_student,
    shipped,
    student_names,
    this_machine,
)
from hkbench.analysis.metrics import metrics_of
from hkbench.export.session import OnnxClassifier
from hkbench.shipping.gate import MOST_LOST, passes
from hkbench.shipping.parts import SCORED_BATCH, Parts, scoring_threads
from hkbench.shipping.publish import Published

TARGET_POINTS = 0.3
NOT_SHIPPED = "not shipped"


def measure(quick: bool) -> Claim:
    """Choose each student's int8 file on validation, then read the test part once with both files."""
    parts = open_parts()
    rows = {}
    for name in student_names(quick=quick):
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = _row(shipped(open_student(name), parts, Path(folder), quick=quick), parts)
    return claim_of(rows, validation=len(parts.rows("validation")), test=len(parts.rows("test")), quick=quick)


def claim_of(rows: dict[str, dict[str, Any]], **details: Any) -> Claim:
    """Return the claim that rows make: a student that isn't shipped counts with what is no longer allowed."""
    value = statistics.median(row["counted"] for row in rows.values())
    gates = [row["gate"] for row in rows.values()]
    return Claim(
        name="int8_loss",
        value=value,
        unit="points",
        target=f"at most {TARGET_POINTS}",
        holds=value <= TARGET_POINTS and all(gate in ("passes", NOT_SHIPPED) for gate in gates),
        details={"students": rows, **details, **this_machine()},
    )


def _row(pair: Pair, parts: Parts) -> dict[str, Any]:
    """Return what a student lost, in points, and both files' accuracy on test."""
    found = pair.int8
    lost = loss_of(pair.float32.logits, found.logits, parts) if found is not None else pair.choice.best.lost
    gate = NOT_SHIPPED if found is None else "passes" if passes(lost) else "fails"
    return {
        "lost": 100 * lost.estimate,
        "low": 100 * lost.low,
        "high": 100 * lost.high,
        "counted": 100 * (lost.estimate if found is not None else max(lost.estimate, MOST_LOST)),
        "gate": gate,
        "refused": pair.refused,
        "recipe": pair.choice.best.recipe.label,
        "tried": len(pair.choice.tried),
        "validation": {
            "fp32": pair.float32.verified.accuracy,
            "int8": pair.choice.best.record.accuracy if found is None else found.verified.accuracy,
        },
        "test": {
            precision: _test_accuracy(published, parts)
            for precision, published in (("fp32", pair.float32), ("int8", found))
        },
    }


def _test_accuracy(published: Published | None, parts: Parts) -> float | None:
    """Return a file's accuracy on test; None for one that isn't there."""
    if published is None:
        return None
    classifier = OnnxClassifier(published.path, threads=scoring_threads())
    return metrics_of(classifier.logits(parts.pictures("test"), batch=SCORED_BATCH), parts.labels("test"))[
        "accuracy"
    ]


if __name__ == "__main__":
    main(measure)
