"""Checkpoints of a training: written whole or not at all, read without running code from the file."""

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from hkbench.errors import HkbenchError
from hkbench.store.atomic import replacing


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) to `path`, replacing what was there.

    Raises:
        UsageError: the disk is full; the older checkpoint is kept.
    """
    buffer = io.BytesIO()  # through memory: torch's own writer hides a full disk behind a RuntimeError
    torch.save(state, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        HkbenchError: the file is missing or damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise HkbenchError(f"The checkpoint {path} can't be read: {str(error).splitlines()[0]}") from error
    return state
