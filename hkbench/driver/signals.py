"""Ctrl-C and SIGTERM while a search runs. Signals are the main thread's: elsewhere nothing changes."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hkbench.driver.ray_runtime import STOPPING

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


@contextmanager
def _handled(handlers: dict[signal.Signals, Handler]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
