"""Ctrl-C and SIGTERM while a search runs. Signals are the main thread's: elsewhere nothing changes."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM)
"""The signals that end a search cleanly."""
Handler = Callable[[int, FrameType | None], Any]


@contextmanager
def sigterm_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt too."""
    with _handled({signal.SIGTERM: signal.default_int_handler}):
        yield


@contextmanager
def interruptible(interrupt: Callable[[], None]) -> Iterator[None]:
    """Call `interrupt` at the first Ctrl-C or SIGTERM; the second one is Python's own."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        interrupt()
        for stopping in STOPPING:
            signal.signal(stopping, signal.default_int_handler)

    with _handled(dict.fromkeys(STOPPING, stop)):
        yield


def keeping_handlers() -> Callable[[], None]:
    """Return a function that puts the handlers of `STOPPING` back as they are now."""
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    return lambda: _handle(handlers)


@contextmanager
def _handled(handlers: dict[signal.Signals, Handler]) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in handlers}
    _handle(handlers)
    try:
        yield
    finally:
        _handle(before)


def _handle(handlers: Mapping[signal.Signals, Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)
