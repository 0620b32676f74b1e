"""What a trained network would answer as a narrower file: quickly, in a worker, without writing one."""

from hkbench.analysis.metrics import metrics_of
from hkbench.export.onnx import content_of, float_model
from hkbench.export.quantize.conversions import CONVERSIONS
from hkbench.export.quantize.int8 import Quantizer
from hkbench.export.quantize.recipe import CALIBRATORS, Recipe
from hkbench.export.session import open_session, session_logits
from hkbench.models.classifier import Classifier
from hkbench.models.counts import check_precision
from hkbench.shipping.parts import SCORED_BATCH, Parts
from hkbench.store.records import Metrics


def narrow_metrics(network: Classifier, precision: str, parts: Parts, *, threads: int = 1) -> Metrics:
    """Return the metrics on validation of a network as a file of another precision than float32.

    int8 is tried per channel with each calibrator, of which the most accurate counts. What is shipped in the
    end is chosen among more recipes, and trained on where none of them keeps the accuracy.

    Raises:
        UsageError: too few pictures to calibrate with, or no such precision.
        NotExportableError: ONNX has no operator for what a layer does.
    """
    model = float_model(network, parts.store.size)
    if check_precision(precision) in CONVERSIONS:
        models = [CONVERSIONS[precision](model)]
    else:
        quantizer = Quantizer(model, parts.calibration())
        models = [quantizer.quantized(Recipe(calibrator=each)) for each in CALIBRATORS]
    pictures, labels = parts.pictures("validation"), parts.labels("validation")
    sessions = (open_session(content_of(each), threads=threads) for each in models)
    found = [metrics_of(session_logits(each, pictures, batch=SCORED_BATCH), labels) for each in sessions]
    return max(found, key=lambda metrics: metrics["accuracy"])
