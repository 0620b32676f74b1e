"""Checkpoints of a training: written whole or not at all, read without running code from the file."""

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from hkbench.errors import HkbenchError
from hkbench.store.atomic import replacing


class DamagedCheckpointError(HkbenchError):
    """A checkpoint that isn't there, or of which something is missing."""


class Stored(Protocol):
    """A file that lies elsewhere, such as in an object store."""

    def exists(self) -> bool:
        """Whether it is there."""

    def read_bytes(self) -> bytes:
        """Read it whole."""

    def write(self, content: memoryview, check: Callable[[], None] | None) -> None:
        """Write it whole, or not at all where `check` raises."""


def save_checkpoint(
    path: Path | Stored, state: dict[str, Any], check: Callable[[], None] | None = None
) -> None:
    """Write `state` (tensors and plain values) to `path`, replacing what was there.

    `check` is called when all is on the disk, right before the file gets its name; what it raises is passed
    on, and the older checkpoint kept.

    Raises:
        UsageError: the disk is full; the older checkpoint is kept.
    """
    buffer = io.BytesIO()  # through memory: torch's own writer hides a full disk behind a RuntimeError
    torch.save(state, buffer)
    if not isinstance(path, Path):
        path.write(buffer.getbuffer(), check)
        return
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check()


def load_checkpoint(path: Path | Stored) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        DamagedCheckpointError: the file is missing or damaged.
        HkbenchError: it can't be read now; its cause is the OSError.
    """
    try:
        written = path.read_bytes()
    except FileNotFoundError as error:
        raise DamagedCheckpointError(_unreadable(path, error)) from error
    except OSError as error:
        raise HkbenchError(_unreadable(path, error)) from error
    try:
        state = torch.load(io.BytesIO(written), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise DamagedCheckpointError(_unreadable(path, error)) from error
    if not isinstance(state, dict):
        raise DamagedCheckpointError(f"The checkpoint {path} can't be read: it is another file.")
    return state


def _unreadable(path: Path | Stored, error: Exception) -> str:
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return f"The checkpoint {path} can't be read: {said}"
