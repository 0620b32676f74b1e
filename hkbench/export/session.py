"""An exported file as a classifier, without torch: what benchmarks and the server run."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from hkbench.errors import UsageError

UNREADABLE = (
    failures.Fail,
    failures.InvalidArgument,
    failures.InvalidGraph,
    failures.InvalidProtobuf,
    failures.NoModel,
    failures.NotImplemented,
    failures.RuntimeException,
)


class OnnxClassifier:
    """A file that hkbench has exported, ready to classify.

    Args:
        path: the ONNX file.
        threads: threads of one inference on the CPU.
        device: "cpu", or "cuda:N" with ONNX Runtime's GPU package.

    Raises:
        UsageError: no such file, no ONNX model, not one of hkbench's, or a device that isn't here.
    """

    def __init__(self, path: Path, *, threads: int = 1, device: str = "cpu") -> None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UsageError(
                f"{path} can't be read: {error.strerror}. Name an exported .onnx file."
            ) from error
        self.path = path
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._session = _open(content, path, threads, device)
        described = self._session.get_modelmeta().custom_metadata_map
        try:
            self.labels = tuple(str(label) for label in json.loads(described["labels"]))
            self.image_size = int(described["image_size"])
        except (KeyError, ValueError, TypeError) as error:
            raise UsageError(
                f"{path} is an ONNX model, but not one that hkbench has exported: its metadata has no "
                "readable labels and image_size. Name a models/<id>/model.onnx of a run."
            ) from error

    def logits(
        self,
        pictures: NDArray[np.uint8],
        *,
        batch: int = 64,
        advance: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Return logits, float32 (N, classes), of RGB pictures, uint8 (N, 3, image_size, image_size).

        `advance` is told after each batch how many pictures it held.

        Raises:
            UsageError: pictures of another size or type.
        """
        wanted = (3, self.image_size, self.image_size)
        if pictures.dtype != np.uint8 or pictures.shape[1:] != wanted:
            raise UsageError(
                f"{self.path} takes uint8 pictures of {wanted}, "
                f"found {pictures.dtype} of {pictures.shape[1:]}."
            )
        found = np.empty((len(pictures), len(self.labels)), dtype=np.float32)
        for start in range(0, len(pictures), batch):
            part = pictures[start : start + batch]
            scaled = part.astype(np.float32) / 255
            (found[start : start + len(part)],) = self._session.run(["logits"], {"pictures": scaled})
            if advance is not None:
                advance(len(part))
        return found


def _open(content: bytes, path: Path, threads: int, device: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # what matters comes as an exception
    # A thread that spins between two inferences takes a core from whatever runs beside it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, options, providers=_providers(device))
    except UNREADABLE as error:
        raise UsageError(f"{path} is no ONNX model that can be run: {error}") from error


def _providers(device: str) -> list[str | tuple[str, dict[str, str]]]:
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    if kind == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return [("CUDAExecutionProvider", {"device_id": index or "0"})]
    raise UsageError(
        f"ONNX Runtime has no device '{device}' here. Use 'cpu', or install onnxruntime-gpu for 'cuda:0'."
    )
