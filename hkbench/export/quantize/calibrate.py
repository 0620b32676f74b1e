"""The ranges of a graph's activations on real pictures, by one of ONNX Runtime's calibrators."""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

from hkbench.errors import UsageError
from hkbench.export.quantize.recipe import Calibrator
from hkbench.export.session import PICTURES

FEWEST_PICTURES = 64
BATCH = 32
AT_ONCE = 64  # pictures whose activations are held in memory together
METHODS: dict[Calibrator, tuple[CalibrationMethod, dict[str, float]]] = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "percentile": (CalibrationMethod.Percentile, {"percentile": 99.99}),
    "entropy": (CalibrationMethod.Entropy, {}),
}


def refuse_too_few(pictures: int) -> None:
    """Refuse to calibrate on so few pictures that the ranges would be chance.

    Raises:
        UsageError: says how many are needed.
    """
    if pictures < FEWEST_PICTURES:
        raise UsageError(
            f"int8 needs at least {FEWEST_PICTURES} training pictures to find the ranges of its activations, "
            f"found {pictures}. Take fp32, fp16 or w8, or bring more pictures."
        )


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Pictures in batches, as ONNX Runtime's calibrators ask for them."""

    def __init__(self, pictures: NDArray[np.uint8]) -> None:
        starts = range(0, len(pictures), BATCH)
        self._batches: Iterator[dict[str, Any]] = (
            {PICTURES: pictures[start : start + BATCH].astype(np.float32) / 255} for start in starts
        )

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch, None after the last."""
        return next(self._batches, None)


def ranges_of(
    model: onnx.ModelProto, pictures: NDArray[np.uint8], calibrator: Calibrator, operators: list[str]
) -> Any:
    """Return the ranges of what `operators` take and give, as ONNX Runtime's quantiser wants them.

    Args:
        model: a float graph with the shapes of its tensors.
        pictures: uint8 (N, 3, S, S), of the train part.
        calibrator: how a range is chosen.
        operators: types of the nodes that will be quantised.
    """
    method, options = METHODS[calibrator]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "float.onnx"
        onnx.save(model, path)
        collecting = create_calibrator(
            path,
            operators,
            augmented_model_path=str(Path(folder) / "calibrated.onnx"),
            calibrate_method=method,
            extra_options=options,
        )
        for start in range(0, len(pictures), AT_ONCE):
            collecting.collect_data(_Reader(pictures[start : start + AT_ONCE]))
        return collecting.compute_data()
