"""Within a worker: an epoch that takes too long ends its process, and leaves where it hung.

A timer of `faulthandler` does it, which runs beside the interpreter and so works while a library holds it.
"""

import faulthandler
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hkbench.store.atomic import explaining_full_disk

if TYPE_CHECKING:
    from hkbench.spaces.settings import TrialSettings

SLOW_STEP_S = 1800.0
"""On top of an epoch's limit: where the network is compiled first, or scored as it would be shipped."""
FRAME = re.compile(r'\s*File "(.*)", line (\d+)(?: in (.*))?')


def step_limit(limit_s: float | None, settings: "TrialSettings", *, first: bool, last: bool) -> float | None:
    """Return how long a worker may take until it reports an epoch, its first one or the last of the trial."""
    if limit_s is None:
        return None
    slow = (first and settings.compiled) or (last and settings.precision != "fp32")
    return limit_s + (SLOW_STEP_S if slow else 0.0)


def hang_file(checkpoints: Path, trial: int) -> Path:
    """Return where a trial's worker leaves what it was at when its time was up."""
    return checkpoints / f"{trial:05d}.hung"


@contextmanager
def watchdog(path: Path, limit_s: float | None) -> Iterator[None]:
    """End this process if the block takes longer than `limit_s`, with the stacks of its threads in `path`."""
    if limit_s is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with explaining_full_disk(path):
        file = path.open("w", encoding="utf-8")
    with file:
        faulthandler.dump_traceback_later(limit_s, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
    path.unlink(missing_ok=True)


def take_hang(path: Path) -> str | None:
    """Return where a worker hung, as file, line and function, and remove its note; None where it left none.

    Of the stacks it is the innermost frame of hkbench, with the innermost of all where that is another's.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    path.unlink(missing_ok=True)
    stacks = [
        [(found[1], found[2], found[3] or "?") for line in stack.splitlines() if (found := FRAME.match(line))]
        for stack in text.split("most recent call first")
    ]
    for stack in reversed([stack for stack in stacks if stack]):  # the main thread's is the last
        ours = next((frame for frame in stack if "hkbench/" in frame[0].replace("\\", "/")), None)
        if ours is not None:
            inner = "" if ours == stack[0] else f", in {_frame_text(stack[0])}"
            return _frame_text(ours) + inner
    return "a place that was not noted" if text.strip() else None


def _frame_text(frame: tuple[str, str, str]) -> str:
    file, line, function = frame
    parts = Path(file).parts
    start = next(
        (at for at in reversed(range(len(parts))) if parts[at] in ("hkbench", "site-packages")), None
    )
    if start is None:
        start = len(parts) - 1
    elif parts[start] != "hkbench":
        start += 1
    return f"{'/'.join(parts[start:])}, line {line} ({function})"
