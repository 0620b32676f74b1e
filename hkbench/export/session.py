"""An exported file as a classifier, without torch, and the session that benchmarks time as well."""

import hashlib
import json
from collections.abc import Sequence
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
ERRORS_ONLY = 3
PICTURES, LOGITS = "pictures", "logits"


class OnnxClassifier:
    """A file that hkbench has exported, ready to classify.

    Args:
        path: the ONNX file.
        threads: threads of one inference.

    Raises:
        UsageError: no such file, no ONNX model, or not one of hkbench's.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UsageError(
                f"{path} can't be read: {error.strerror}. Name an exported .onnx file."
            ) from error
        self.path = path
        self.sha256 = hashlib.sha256(content).hexdigest()
        try:
            self._session = open_session(content, threads=threads)
        except UNREADABLE as error:
            raise UsageError(f"{path} is no ONNX model that can be run: {error}") from error
        described = self._session.get_modelmeta().custom_metadata_map
        try:
            self.labels = tuple(str(label) for label in json.loads(described["labels"]))
            self.image_size = int(described["image_size"])
        except (KeyError, ValueError, TypeError) as error:
            raise UsageError(
                f"{path} is an ONNX model, but not one that hkbench has exported: its metadata has no "
                "readable labels and image_size. Name a models/<id>/model.onnx of a run."
            ) from error

    def logits(self, pictures: NDArray[np.uint8], *, batch: int = 64) -> NDArray[np.float32]:
        """Return logits, float32 (N, classes), of RGB pictures, uint8 (N, 3, image_size, image_size).

        Raises:
            UsageError: pictures of another size or type.
        """
        wanted = (3, self.image_size, self.image_size)
        if pictures.dtype != np.uint8 or pictures.shape[1:] != wanted:
            raise UsageError(
                f"{self.path} takes uint8 pictures of {wanted}, "
                f"found {pictures.dtype} of {pictures.shape[1:]}."
            )
        if not len(pictures):
            return np.empty((0, len(self.labels)), dtype=np.float32)
        return session_logits(self._session, pictures, batch=batch)


def session_logits(
    session: onnxruntime.InferenceSession, pictures: NDArray[np.uint8], *, batch: int = 64
) -> NDArray[np.float32]:
    """Return an open model's logits, float32 (N, classes), of pictures, uint8 (N, 3, S, S), at least one."""
    parts = [
        session.run([LOGITS], {PICTURES: pictures[start : start + batch].astype(np.float32) / 255})[0]
        for start in range(0, len(pictures), batch)
    ]
    return np.concatenate(parts)


def open_session(
    model: Path | bytes,
    *,
    threads: int,
    providers: Sequence[str | tuple[str, dict[str, str]]] = ("CPUExecutionProvider",),
) -> onnxruntime.InferenceSession:
    """Open an ONNX model, a file or its content, with one thread for all but the work inside an operator.

    ONNX Runtime's own exceptions pass: `UNREADABLE` lists those that a file can bring about.

    Args:
        model: a path also finds weights that lie in a file beside it.
        threads: threads of one inference on the CPU.
        providers: ONNX Runtime's names of what is to run it, with options. One that can't be started is
            passed over for the CPU with no more than a line of log: ask the session which it got.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY  # what matters comes as an exception
    # A thread that spins between two inferences takes a core from whatever runs beside it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=list(providers))
