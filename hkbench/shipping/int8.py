"""The int8 file of a float32 one: of several recipes, the fastest on this machine that keeps the accuracy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from hkbench.benchmark.turns import timed_in_turns
from hkbench.export.onnx import content_of
from hkbench.export.quantize.int8 import Quantizer
from hkbench.export.quantize.recipe import LAYOUTS, Layout, Recipe, recipes_of
from hkbench.export.session import open_session, session_logits
from hkbench.shipping.gate import accuracy_lost, passes
from hkbench.shipping.parts import SCORED_BATCH, Parts, scoring_threads
from hkbench.store.blocks import Advance
from hkbench.store.records import AccuracyLoss, QuantizationAttempt

TIMED_SECONDS = 2.0
AS_FAST = 1.03
"""Layouts that take at most so many times as long as the fastest are as fast: the plain one is preferred."""

Recipes = Callable[[Layout], list[Recipe]]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A recipe that was tried."""

    recipe: Recipe
    model: onnx.ModelProto
    logits: NDArray[np.float32]
    record: QuantizationAttempt

    @property
    def lost(self) -> AccuracyLoss:
        """What it cost."""
        return self.record.lost


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What came of trying: `best` is the attempt to ship or, where none `passed`, the one that lost least."""

    best: Attempt
    passed: bool
    tried: list[QuantizationAttempt]
    float_latency_ms: float
    quantizer: Quantizer


def choose_int8(
    model: onnx.ModelProto,
    float_logits: NDArray[np.float32],
    parts: Parts,
    advance: Advance,
    *,
    recipes: Recipes | None = None,
) -> Choice:
    """Quantise a float32 model in several ways and choose one of them.

    Which layout is fastest is measured; of its recipes that keep the accuracy the one that loses least is
    taken. A slower layout is tried only where none of a faster one's does.

    Args:
        model: the float32 file, without metadata.
        float_logits: what it answers on validation, float32 (N, classes).
        parts: pictures to calibrate with and to score on.
        advance: called with (recipes tried, recipes in all) of each layout.
        recipes: which ones of a layout to try, all that are worth it without.

    Raises:
        UsageError: too few pictures to calibrate with.
    """
    quantizer = Quantizer(model, parts.calibration())
    latencies = time_layouts(quantizer, model, parts.store.size)
    pictures, labels = parts.pictures("validation"), parts.labels("validation")
    ordered = by_speed({layout: latencies[layout] for layout in LAYOUTS})
    attempts: list[Attempt] = []
    for layout in ordered:
        waiting = (recipes or recipes_of)(layout)
        for done, recipe in enumerate(waiting, start=1):
            attempts.append(
                _attempt(quantizer, recipe, float_logits, pictures, labels, latency_ms=latencies[layout])
            )
            advance(done, len(waiting))
        good = [each for each in attempts if each.recipe.layout == layout and passes(each.lost)]
        if good:
            break
    best = min(good or attempts, key=lambda each: (each.lost.estimate, each.record.size_bytes))
    return Choice(
        best=best,
        passed=bool(good),
        tried=[each.record for each in attempts],
        float_latency_ms=latencies[None],
        quantizer=quantizer,
    )


def _attempt(
    quantizer: Quantizer,
    recipe: Recipe,
    float_logits: NDArray[np.float32],
    pictures: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    latency_ms: float,
) -> Attempt:
    model = quantizer.quantized(recipe)
    content = content_of(model)
    logits = _logits(content, pictures)
    return Attempt(
        recipe=recipe,
        model=model,
        logits=logits,
        record=QuantizationAttempt(
            recipe=recipe.label,
            size_bytes=len(content),
            accuracy=float((logits.argmax(axis=1) == labels).mean()),
            lost=accuracy_lost(float_logits, logits, labels),
            latency_ms=latency_ms,
        ),
    )


def _logits(content: bytes, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = open_session(content, threads=scoring_threads())
    return session_logits(session, pictures, batch=SCORED_BATCH)


def time_layouts(
    quantizer: Quantizer, model: onnx.ModelProto, image_size: int, *, seconds: float = TIMED_SECONDS
) -> dict[Layout | None, float]:
    """Return each layout's latency in ms at batch 1 with one thread, and the float32 model's under None.

    They take turns, so that whatever else the machine does falls on all alike.
    """
    contents: dict[Layout | None, bytes] = {None: content_of(model)}
    for layout in LAYOUTS:
        contents[layout] = content_of(quantizer.quantized(Recipe(layout=layout)))
    return timed_in_turns(contents, image_size, batch=1, seconds=seconds)


def by_speed(latencies: Mapping[Layout, float]) -> list[Layout]:
    """Return layouts from the fastest on; of those that are as fast as the fastest, plain ones come first."""
    fastest = min(latencies.values())
    return sorted(
        latencies,
        key=lambda layout: (
            (0.0, layout.float_stem) if latencies[layout] <= AS_FAST * fastest else (latencies[layout], False)
        ),
    )


def blamed(choice: Choice, pictures: NDArray[np.uint8], *, most: int = 3) -> list[tuple[str, float]]:
    """Return the layers that change most answers when they alone are quantised, and the share of each.

    Args:
        choice: what was tried.
        pictures: uint8 (N, 3, S, S).
        most: how many layers to name.
    """
    quantizer, recipe = choice.quantizer, replace(choice.best.recipe, layout=Layout())

    def answers(model: onnx.ModelProto) -> NDArray[np.int64]:
        found: NDArray[np.int64] = _logits(content_of(model), pictures).argmax(axis=1)
        return found

    expected = answers(quantizer.model)
    changed = {
        layer: float((answers(quantizer.readable(recipe, only=(layer,))) != expected).mean())
        for layer in quantizer.layers()
    }
    worst: Sequence[str] = sorted(changed, key=lambda layer: -changed[layer])[:most]
    return [(quantizer.layers()[layer], changed[layer]) for layer in worst]
