"""How numbers are written for a reader: three significant digits, a unit, and a dash where there is none."""

import math

MISSING = "–"
BYTES_PER_MB = 1e6


def number(value: float | None) -> str:
    """Write a number with three significant digits, without an exponent: 0.812, 4.40, 12.8, 430, 1,234."""
    if value is None or math.isnan(value):
        return MISSING
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(decimals, 6)}f}"


def megabytes(size_bytes: float | None) -> str:
    """Write a size in MB of 10⁶ bytes."""
    return _with_unit(None if size_bytes is None else size_bytes / BYTES_PER_MB, "MB")


def milliseconds(value: float | None) -> str:
    """Write a duration in milliseconds."""
    return _with_unit(value, "ms")


def percent(share: float | None) -> str:
    """Write a share in [0, 1] as a percentage with one decimal."""
    if share is None or math.isnan(share):
        return MISSING
    return f"{100 * share:.1f} %"


def points(share: float) -> str:
    """Write a difference of shares in percentage points, with a true minus sign."""
    return f"{100 * share:.1f}".replace("-", "−")


def counted(n: int, word: str) -> str:
    """Write a count with its word in the right number: 1 trial, 2 trials."""
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"


def _with_unit(value: float | None, unit: str) -> str:
    written = number(value)
    return written if written == MISSING else f"{written} {unit}"
