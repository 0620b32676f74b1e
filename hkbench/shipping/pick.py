"""Which of a run's networks to ship: the smallest, fastest or most accurate one that keeps a limit."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from hkbench.errors import UsageError, unknown
from hkbench.store.records import ModelRecord

UNIT_BYTES = {"": 1, "b": 1, "kb": 1_000, "mb": 1_000_000}
NEAREST = 3
SLACK = 0.01
"""A narrower file may by chance answer so much better than the float32 one that it was made from."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a file is picked by: accuracy on validation, bytes, and ms at batch 1 where it was measured."""

    id: str
    accuracy: float
    size_bytes: int
    latency_ms: float | None

    @property
    def text(self) -> str:
        """The figures in a few words."""
        latency = "" if self.latency_ms is None else f", {self.latency_ms:.2f} ms"
        return f"{self.id}: {self.accuracy:.1%}, {self.size_bytes / 1000:,.0f} kB{latency}"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A way to pick: what is preferred, what a file must keep, and by how much one misses it.

    `floors_accuracy` says that the limit is an accuracy, which a narrower file seldom gains.
    """

    name: str
    what: str
    parse: Callable[[str], float]
    order: Callable[[Figures], float]
    misses_by: Callable[[Figures, float], float]
    floors_accuracy: bool = False


def _latency(figures: Figures) -> float:
    return float("inf") if figures.latency_ms is None else figures.latency_ms


def parse_share(text: str) -> float:
    """Return an accuracy as a share: `0.8` and `80%` are the same.

    Raises:
        UsageError: it is no share in (0, 1].
    """
    found = re.fullmatch(r"\s*(\d*\.?\d+)\s*(%?)\s*", text)
    share = float(found[1]) / (100 if found[2] else 1) if found else -1.0
    if not 0 < share <= 1:
        raise UsageError(f"An accuracy is a share such as 0.80 or 80%, found '{text}'.")
    return share


def parse_bytes(text: str) -> float:
    """Return a number of bytes: `500kB`, `1.5MB` or `500000`.

    Raises:
        UsageError: it is none.
    """
    found = re.fullmatch(r"\s*(\d*\.?\d+)\s*([a-zA-Z]*)\s*", text)
    if found is None or found[2].lower() not in UNIT_BYTES or float(found[1]) <= 0:
        raise UsageError(f"A size is a number of bytes such as 500kB or 1.5MB, found '{text}'.")
    return float(found[1]) * UNIT_BYTES[found[2].lower()]


def parse_ms(text: str) -> float:
    """Return milliseconds: `2`, `2ms` or `0.5 ms`.

    Raises:
        UsageError: it is none.
    """
    found = re.fullmatch(r"\s*(\d*\.?\d+)\s*(ms)?\s*", text)
    if found is None or float(found[1]) <= 0:
        raise UsageError(f"A latency is a number of milliseconds such as 2ms, found '{text}'.")
    return float(found[1])


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            name="smallest-at",
            what="the smallest file that has at least this accuracy",
            parse=parse_share,
            order=lambda figures: figures.size_bytes,
            misses_by=lambda figures, limit: limit - figures.accuracy,
            floors_accuracy=True,
        ),
        Rule(
            name="fastest-at",
            what="the fastest file that has at least this accuracy",
            parse=parse_share,
            order=_latency,
            misses_by=lambda figures, limit: limit - figures.accuracy,
            floors_accuracy=True,
        ),
        Rule(
            name="best-under",
            what="the most accurate file of at most so many bytes",
            parse=parse_bytes,
            order=lambda figures: -figures.accuracy,
            misses_by=lambda figures, limit: figures.size_bytes / limit - 1,
        ),
        Rule(
            name="best-within",
            what="the most accurate file that takes at most so many milliseconds",
            parse=parse_ms,
            order=lambda figures: -figures.accuracy,
            misses_by=lambda figures, limit: _latency(figures) / limit - 1,
        ),
    )
}


def rule_of(name: str) -> Rule:
    """Return a rule by name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in RULES:
        raise unknown("rule of --pick", name, RULES)
    return RULES[name]


def figures_of(record: ModelRecord) -> Figures:
    """Return what a file is picked by."""
    return Figures(
        id=record.id,
        accuracy=record.accuracy("validation"),
        size_bytes=record.size_bytes,
        latency_ms=record.verified.latency_ms if record.verified is not None else None,
    )


def in_order(rule: Rule, limit: float, records: list[ModelRecord]) -> list[ModelRecord]:
    """Return float32 models in the order in which they are worth trying.

    One that is too inaccurate in float32 is left out; one that is too large or too slow may become small or
    fast enough.
    """
    least = limit - SLACK if rule.floors_accuracy else 0.0
    worth = [each for each in records if each.accuracy("validation") >= least]
    return sorted(worth, key=lambda each: rule.order(figures_of(each)))


def nothing_meets(rule: Rule, text: str, limit: float, found: list[Figures]) -> UsageError:
    """Return the error that says which files come nearest."""
    nearest = sorted(found, key=lambda each: rule.misses_by(each, limit))[:NEAREST]
    return UsageError(
        f"No file keeps '{rule.name} {text}' ({rule.what}). The nearest: "
        f"{'; '.join(each.text for each in nearest)}. Ask for less, or search with more trials."
    )
