"""Runtimes by name: what each can use on this machine, and how it loads a file into a call to time.

Imports no torch, so that a worker starts fast.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from hkbench.benchmark.devices import Device, Missing, find, parse_device
from hkbench.errors import HkbenchError
from hkbench.export.session import open_session

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""Kind of device → ONNX Runtime's name for it."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One way to run a file.

    `missing(device)` says why it can't use a device that is there, None if it can.
    `load(path, device, batch, threads)` opens a file and returns a call that classifies one batch of noise,
    copies to and from the device included, and returns when the logits are there.
    """

    missing: Callable[[Device], str | None]
    load: Callable[[Path, Device, int, int], Callable[[], object]]


def _onnxruntime_missing(device: Device) -> str | None:
    provider = PROVIDERS[device.kind]
    available = onnxruntime.get_available_providers()
    if provider in available:
        return None
    return (
        f"this ONNX Runtime has no {provider} (it has {', '.join(available)}): "
        "install onnxruntime-gpu in place of onnxruntime"
    )


def _load_onnxruntime(path: Path, device: Device, batch: int, threads: int) -> Callable[[], object]:
    provider = PROVIDERS[device.kind]
    if device.kind == "cuda":
        onnxruntime.preload_dlls()  # CUDA's libraries lie in torch's wheels, where the loader doesn't look
    place = {"device_id": str(device.index)} if device.kind == "cuda" else {}
    session = open_session(path, threads=threads, providers=[(provider, place)])
    if session.get_providers()[0] != provider:
        # It falls back to the CPU with no more than a line of log.
        raise HkbenchError(
            f"ONNX Runtime couldn't start its {provider}: a library of CUDA or cuDNN is missing"
        )
    pictures = _noise(session, batch)
    return lambda: session.run(["logits"], {"pictures": pictures})


def _noise(session: onnxruntime.InferenceSession, batch: int) -> np.ndarray:
    """Return float32 (batch, 3, S, S) in [0, 1), S as the file says."""
    inputs = {entry.name: entry.shape for entry in session.get_inputs()}
    shape = inputs.get("pictures")
    if shape is None or len(shape) != 4 or not all(isinstance(size, int) for size in shape[1:]):
        raise HkbenchError(
            f"expected one input 'pictures' of shape (batch, 3, S, S), the file has {inputs}: "
            "export it with this hkbench"
        )
    return np.random.default_rng(0).random((batch, *shape[1:]), dtype=np.float32)


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": Runtime(missing=_onnxruntime_missing, load=_load_onnxruntime),
}
"""Name → runtime."""


def why_unmeasurable(device: str, runtime: str = "onnxruntime") -> str | None:
    """Return why a runtime can't time anything on a device, `cpu` or `cuda:0`; None if it can.

    Raises:
        UsageError: that is no device's name.
    """
    parsed = parse_device(device)
    place = find(parsed)
    return place.reason if isinstance(place, Missing) else RUNTIMES[runtime].missing(parsed)
