"""A narrower file of a float32 model of a run: made, checked, scored, recorded beside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import onnx
from numpy.typing import NDArray

from hkbench.analysis.misclassification import MisclassificationCosts
from hkbench.errors import UsageError
from hkbench.export.onnx import float_model
from hkbench.export.quantize.conversions import CONVERSIONS
from hkbench.export.quantize.stored import unpacked_bytes
from hkbench.export.session import OnnxClassifier
from hkbench.models.classifier import Classifier
from hkbench.models.counts import check_precision
from hkbench.shipping.facts import file_metadata
from hkbench.shipping.float32 import LABELS, ONNX, Shipped, blocks_of, scored_parts
from hkbench.shipping.gate import (
    MOST_LOST,
    MOST_LOST_BY_CHANCE,
    CollapsedError,
    accuracy_lost,
    keeps,
    passes,
    said,
)
from hkbench.shipping.int8 import Choice, blamed, choose_int8
from hkbench.shipping.parts import SCORED_BATCH, Parts, scoring_threads
from hkbench.shipping.publish import publish
from hkbench.store.atomic import write_text
from hkbench.store.blocks import Advance
from hkbench.store.records import AccuracyLoss, ModelRecord, Quantization
from hkbench.store.rundir import RunDirectory

Tune = Callable[[], tuple[Classifier, int]]
"""Trains the network on with its rounding simulated; returns it and the number of epochs."""


@dataclass(frozen=True, kw_only=True)
class _Narrow:
    """A narrower model, ready to be published."""

    model: onnx.ModelProto
    unpacked_bytes: int | None = None
    quantization: Quantization | None = None


def narrow_id(source: str, precision: str) -> str:
    """Return the id of a narrower file: its source's own for fp32, else `<source>-<precision>`."""
    return source if precision == "fp32" else f"{source}-{precision}"


def ship_narrow(
    source: ModelRecord,
    precision: str,
    parts: Parts,
    run: RunDirectory,
    *,
    tune: Tune | None = None,
    read: Sequence[str] = ("validation",),
    costs: MisclassificationCosts | None = None,
    advance: Advance = lambda *_: None,
) -> Shipped:
    """Put a narrower file of a float32 model into `models/<id>-<precision>/` of its run.

    Args:
        source: the float32 model's record; its file must lie in the run.
        precision: fp16, int8 or w8.
        parts: pictures to calibrate with, to check and to score on.
        run: where both lie.
        tune: what to do where no int8 file keeps the accuracy; None where the weights aren't at hand.
        read: the parts that the file is scored on.
        costs: what wrong answers cost.
        advance: told how many recipes were tried.

    Raises:
        CollapsedError: the file would lose more accuracy than is allowed; says which layers are to blame.
        RejectedError: the written file isn't what it should be.
        UsageError: no float32 file, too few pictures to calibrate with, or a full disk.
    """
    check_precision(precision)
    path = run.onnx_file(source)
    if not run.holds(source):
        raise UsageError(f"{path} isn't there, or isn't the file of {source.id}: export the model again.")
    float_logits = OnnxClassifier(path, threads=scoring_threads()).logits(
        parts.pictures("validation"), batch=SCORED_BATCH
    )
    narrow = _made(source, precision, _bare(path.read_bytes()), float_logits, parts, tune, advance)
    labels = parts.labels("validation")
    loss_of = partial(accuracy_lost, float_logits, labels=labels)
    id_ = narrow_id(source.id, precision)
    folder = run.models / id_
    published = publish(
        narrow.model,
        folder / ONNX,
        name=source.model,
        parts=parts,
        metadata=file_metadata(
            split_hash=parts.split.hash,
            precision=precision,
            source_sha256=source.sha256,
            training=source.training,
            licences=source.licences,
        ),
        flaw=lambda logits: _too_much(source, precision, loss_of(logits)),
    )
    write_text(folder / LABELS, "\n".join(parts.store.classes) + "\n")
    blocks = blocks_of(id_, published.path, published.logits, parts, read)
    record = source.model_copy(
        update={
            "id": id_,
            "precision": precision,
            "source": source.id,
            "source_sha256": source.sha256,
            "twin_of": None,
            "sha256": published.verified.sha256,
            "size_bytes": published.verified.size_bytes,
            "unpacked_bytes": narrow.unpacked_bytes,
            "files": {"onnx": ONNX, "labels": LABELS},
            "parts": scored_parts(blocks, costs),
            "lost": loss_of(published.logits),
            "quantization": narrow.quantization,
            "verified": published.verified,
        }
    )
    run.write_model(record)
    return Shipped(record=record, blocks=blocks)


def _bare(content: bytes) -> onnx.ModelProto:
    model = onnx.ModelProto.FromString(content)
    del model.metadata_props[:]
    return model


def _made(
    source: ModelRecord,
    precision: str,
    model: onnx.ModelProto,
    float_logits: NDArray[np.float32],
    parts: Parts,
    tune: Tune | None,
    advance: Advance,
) -> _Narrow:
    if precision in CONVERSIONS:
        unpacked = unpacked_bytes(model) if precision == "w8" else None
        return _Narrow(model=CONVERSIONS[precision](model), unpacked_bytes=unpacked)
    choice, epochs = choose_int8(model, float_logits, parts, advance), 0
    if not keeps(choice.best.lost) and tune is not None:
        network, epochs = tune()
        tuned = choose_int8(float_model(network, parts.store.size), float_logits, parts, advance)
        again = [each.model_copy(update={"recipe": f"{each.recipe}, trained on"}) for each in tuned.tried]
        choice = replace(tuned, tried=[*choice.tried, *again])
    if not choice.passed:
        refused = _unproven if keeps(choice.best.lost) else _collapsed
        raise refused(source, choice, parts, epochs)
    return _Narrow(
        model=choice.best.model,
        quantization=Quantization(
            recipe=choice.best.recipe.described(),
            label=choice.best.recipe.label,
            pictures=len(parts.calibration()),
            tuned_epochs=epochs,
            float_latency_ms=choice.float_latency_ms,
            tried=choice.tried,
        ),
    )


def _collapsed(source: ModelRecord, choice: Choice, parts: Parts, epochs: int) -> CollapsedError:
    layers = "; ".join(
        f"{layer} alone changes {share:.1%} of the answers"
        for layer, share in blamed(choice, parts.calibration())
    )
    trained = (
        f", and training on for {epochs} epochs with the rounding simulated didn't help" if epochs else ""
    )
    return CollapsedError(
        f"{source.id} loses too much accuracy in int8: {said(choice.best.lost)} at best, by "
        f"{choice.best.recipe.label}, where {MOST_LOST * 100:g} is allowed{trained}. To blame: {layers}. "
        "Ship fp32, fp16 or w8, or search for a network without these layers."
    )


def _unproven(source: ModelRecord, choice: Choice, parts: Parts, _epochs: int) -> CollapsedError:
    return CollapsedError(
        f"{source.id} in int8 can't be shown to keep its accuracy: {len(parts.labels('validation')):,} "
        f"pictures of the validation part say that it loses {said(choice.best.lost)}, and by chance it may "
        f"lose {MOST_LOST_BY_CHANCE * 100:g} at most. Bring more pictures, or ship fp32, fp16 or w8."
    )


def _too_much(source: ModelRecord, precision: str, lost: AccuracyLoss) -> str | None:
    kept = passes(lost) if precision == "int8" else keeps(lost)
    return None if kept else f"{source.id} loses {said(lost)} of accuracy in {precision}"
