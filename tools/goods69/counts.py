"""How many pictures each class and each model gets."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A size of the whole set: its pictures, and those of its smallest and largest class."""

    total: int
    smallest: int
    largest: int


SCALES: dict[str, Scale] = {
    "shipped": Scale(total=11_000, smallest=100, largest=270),
    # The study's own data set: 69 classes, 104,461 pictures.
    "study": Scale(total=104_461, smallest=578, largest=2_559),
}


def _noise(name: str) -> float:
    """A number in [-1, 1) that depends on the class name alone."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**63 - 1


def _spread(positions: dict[str, float], scale: Scale, power: float) -> dict[str, float]:
    width = scale.largest - scale.smallest
    return {name: scale.smallest + width * p**power for name, p in positions.items()}


def class_counts(models_per_class: dict[str, int], scale: Scale) -> dict[str, int]:
    """Pictures of each class; they add up to `scale.total` and reach both of its ends exactly.

    Classes with more 3D models get more pictures, so that no model is seen from a hundred sides
    while another is seen from five; noise by name keeps the order from being that of the models.

    Raises ValueError when no such counts exist.
    """
    classes = len(models_per_class)
    if classes < 2 or not scale.smallest * classes <= scale.total <= scale.largest * classes:
        raise ValueError(f"{scale} does not fit {classes} classes")
    weights = {name: math.log(models) + 0.6 * _noise(name) for name, models in models_per_class.items()}
    low, high = min(weights.values()), max(weights.values())
    positions = {name: (weight - low) / (high - low) for name, weight in weights.items()}
    # The sum falls as the power rises, so the power that gives the total is found by halving.
    lower, upper = 1e-3, 1e3
    for _ in range(200):
        power = math.sqrt(lower * upper)
        if sum(_spread(positions, scale, power).values()) > scale.total:
            lower = power
        else:
            upper = power
    return _round_to_total(_spread(positions, scale, math.sqrt(lower * upper)), scale)


def _round_to_total(exact: dict[str, float], scale: Scale) -> dict[str, int]:
    counts = {name: math.floor(value + 1e-9) for name, value in exact.items()}
    inner = [name for name, n in counts.items() if scale.smallest < n < scale.largest]
    by_remainder = sorted(inner, key=lambda name: (counts[name] - exact[name], name))
    missing = scale.total - sum(counts.values())
    if not 0 <= missing <= len(by_remainder):
        raise ValueError(f"{scale} cannot be met by {len(exact)} classes")
    for name in by_remainder[:missing]:
        counts[name] += 1
    return counts


def spread_evenly(count: int, groups: list[str]) -> dict[str, int]:
    """Share `count` views among `groups`; no two differ by more than one view."""
    each, extra = divmod(count, len(groups))
    return {group: each + (index < extra) for index, group in enumerate(sorted(groups))}
