"""A file gets its final name only once it has been found to be what it should be."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from hkbench.analysis.metrics import metrics_of
from hkbench.benchmark.artifact import file_bytes
from hkbench.errors import UsageError
from hkbench.export.onnx import (
    CHECKED_BATCHES,
    UNVERIFIED,
    content_of,
    described,
    refuse_other_logits,
    reject,
)
from hkbench.export.session import OnnxClassifier
from hkbench.shipping.facts import metrics_text
from hkbench.shipping.parts import SCORED_BATCH, Parts, scoring_threads
from hkbench.store.atomic import replacing
from hkbench.store.environment import now
from hkbench.store.records import Verification

MOST_CHANGED_ANSWERS = 0.005
"""Of a narrow file, from one batch size to another: sums in another order may round to another step."""


Flaw = Callable[[NDArray[np.float32]], str | None]


@dataclass(frozen=True, kw_only=True)
class Published:
    """A file under its final name; `logits` are its answers on validation, float32 (N, classes)."""

    path: Path
    logits: NDArray[np.float32]
    verified: Verification


def publish(
    model: onnx.ModelProto,
    path: Path,
    *,
    name: str,
    parts: Parts,
    metadata: Mapping[str, str],
    expected: NDArray[np.float32] | None = None,
    flaw: Flaw = lambda _: None,
) -> Published:
    """Score a model on validation, write it with its metrics, check the written file, then name it.

    Args:
        model: without metadata.
        path: where it is to lie.
        name: what its metadata calls the network.
        parts: the pictures.
        metadata: what it is to carry, beside its metrics and what `described` adds.
        expected: torch's logits on validation, float32 (N, classes), which a float32 file must give at batch
            1 and 32; without them the file must give the same answers at both.
        flaw: says what is wrong with the file's own logits on validation, None where nothing is.

    Raises:
        RejectedError: the file gives other logits, or other answers; it is kept with `.rejected` at its end.
        UsageError: the disk is full; nothing is left.
    """
    pictures, labels = parts.pictures("validation"), parts.labels("validation")
    _describe(model, name, parts, dict(metadata))
    waiting = path.with_name(path.name + UNVERIFIED)
    logits = _write(model, waiting).logits(pictures, batch=SCORED_BATCH)
    if not np.isfinite(logits).all():
        raise reject(waiting, "it gives logits that are no numbers")
    metrics = metrics_of(logits, labels)
    _describe(model, name, parts, {**metadata, "metrics": metrics_text(metrics)})
    classifier = _write(model, waiting)
    singly = classifier.logits(pictures, batch=1)
    difference = None
    if expected is not None:
        difference = refuse_other_logits(waiting, name, (logits, singly), expected)
    changed = float((singly.argmax(axis=1) != logits.argmax(axis=1)).mean())
    if changed > MOST_CHANGED_ANSWERS:
        raise reject(
            waiting, f"at batch 1 it answers {changed:.1%} of the pictures otherwise than at batch 32"
        )
    if found := flaw(logits):
        raise reject(waiting, found)
    size_bytes = file_bytes(waiting)
    waiting.replace(path)
    return Published(
        path=path,
        logits=logits,
        verified=Verification(
            sha256=classifier.sha256,
            size_bytes=size_bytes,
            pictures=len(labels),
            accuracy=metrics["accuracy"],
            max_logit_difference=difference,
            batches=list(CHECKED_BATCHES),
            verified=now(),
        ),
    )


def _describe(model: onnx.ModelProto, name: str, parts: Parts, metadata: dict[str, str]) -> None:
    described(model, name, parts.store.size, parts.store.classes, metadata)


def _write(model: onnx.ModelProto, path: Path) -> OnnxClassifier:
    """Write a model and open the file that was written."""
    content = content_of(model)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except UsageError:  # a full disk: nothing half-checked may stay
        path.unlink(missing_ok=True)
        raise
    classifier = OnnxClassifier(path, threads=scoring_threads())
    if classifier.sha256 != hashlib.sha256(content).hexdigest():
        raise reject(path, "what was read back is not what was written")
    return classifier
