"""`predictions.parquet`: what each kept model answered, and the metrics that follow from it.

One row a model and picture: `model_id`, `part`, `picture_id`, `group` (null where pictures have none),
`label` (int32) and `logits` (a fixed-size list of float16). Rows keep the order in which they were
written. It is the one source of accuracy, intervals and confusion.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hkbench.errors import UsageError
from hkbench.store import atomic
from hkbench.store.records import Metrics


@dataclass(frozen=True, kw_only=True)
class PredictionBlock:
    """One model's answers on one part: n pictures, in the order of the part.

    `labels` is int (n,), `logits` float16 (n, classes), before any softmax.
    """

    model_id: str
    part: str
    picture_ids: Sequence[str]
    groups: Sequence[str] | None
    labels: NDArray[np.integer]
    logits: NDArray[np.float16]


def write_predictions(path: Path, blocks: Iterable[PredictionBlock]) -> None:
    """Write the blocks, one row group each, as a whole file; no block is a file that isn't written.

    Raises:
        ValueError: a block's columns differ in length, or the blocks in their number of classes.
    """
    tables = [_to_table(block) for block in blocks]
    if not tables:
        return
    schema = tables[0].schema
    if any(table.schema != schema for table in tables):
        raise ValueError("all models of a run answer with the same number of classes")
    with atomic.replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as file:
        for table in tables:
            file.write_table(table, row_group_size=max(1, table.num_rows))


def _to_table(block: PredictionBlock) -> Any:
    n, classes = block.logits.shape
    groups = [None] * n if block.groups is None else list(block.groups)
    logits = pa.array(np.ascontiguousarray(block.logits, dtype=np.float16).reshape(-1))
    columns = {
        "model_id": pa.array([block.model_id] * n, pa.string()),
        "part": pa.array([block.part] * n, pa.string()),
        "picture_id": pa.array(list(block.picture_ids), pa.string()),
        "group": pa.array(groups, pa.string()),
        "label": pa.array(np.asarray(block.labels), pa.int32()),
        "logits": pa.FixedSizeListArray.from_arrays(logits, classes),
    }
    if {len(column) for column in columns.values()} != {n}:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in columns.items())
        raise ValueError(f"the columns of {block.model_id}, {block.part} differ in length: {lengths}")
    return pa.table(columns)


def read_predictions(path: Path) -> list[PredictionBlock]:
    """Read the blocks in the order in which they were written; no file is no blocks.

    Raises:
        UsageError: the file is not a whole Parquet file with these columns.
    """
    if not path.is_file():
        return []
    try:
        table = pq.read_table(path).combine_chunks()
        model_ids = table["model_id"].to_numpy()
        parts = table["part"].to_numpy()
        lists = table["logits"].combine_chunks()
        logits = lists.flatten().to_numpy().reshape(len(lists), -1).astype(np.float16)
        picture_ids = table["picture_id"].to_pylist()
        groups = table["group"].to_pylist()
        labels = table["label"].to_numpy()
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise UsageError(f"{path} can't be read as predictions: {error}. Run the search again.") from error
    starts = np.flatnonzero((model_ids[1:] != model_ids[:-1]) | (parts[1:] != parts[:-1])) + 1
    return [
        PredictionBlock(
            model_id=model_ids[start],
            part=parts[start],
            picture_ids=picture_ids[start:end],
            groups=None if groups[start] is None else groups[start:end],
            labels=labels[start:end],
            logits=logits[start:end],
        )
        for start, end in pairwise([0, *starts.tolist(), len(model_ids)])
        if end > start
    ]


def correct(block: PredictionBlock) -> NDArray[np.bool_]:
    """Return, for each picture, whether the largest logit is the label's; bool (n,)."""
    return np.asarray(block.logits.argmax(axis=1) == block.labels)


def confusion(block: PredictionBlock) -> NDArray[np.int64]:
    """Return how many pictures of each class (row) got each answer (column); int64 (classes, classes)."""
    classes = block.logits.shape[1]
    pairs = block.labels.astype(np.int64) * classes + block.logits.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def class_accuracy(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each class's share of right answers from a confusion matrix; NaN for one without pictures."""
    pictures = counts.sum(axis=1)
    shares = np.full(len(counts), np.nan)
    np.divide(counts.diagonal(), pictures, out=shares, where=pictures > 0)
    return shares


def metrics_of(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Metrics:
    """Return accuracy, top5, macro_f1 (shares in [0, 1]) and log_loss (nats).

    With fewer than five classes top5 is 1. A class that is neither among the labels nor among the
    answers has no F1 and is left out of the mean, as scikit-learn does.

    Args:
        logits: float (n, classes), n ≥ 1; they are rounded to float16 first, as they are stored.
        labels: int (n,), in [0, classes).

    Raises:
        ValueError: there is no picture, or the two differ in length.
    """
    if len(logits) != len(labels) or not len(labels):
        raise ValueError(f"metrics need a label for each of at least one picture, not {len(labels)}")
    stored = logits.astype(np.float16).astype(np.float64)  # (n, classes)
    answers = stored.argmax(axis=1)
    top = np.argsort(-stored, axis=1, kind="stable")[:, :5]
    shifted = stored - stored.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    return {
        "accuracy": float((answers == labels).mean()),
        "top5": float((top == labels[:, None]).any(axis=1).mean()),
        "macro_f1": _macro_f1(answers, labels, stored.shape[1]),
        "log_loss": float((log_sum - shifted[np.arange(len(labels)), labels]).mean()),
    }


def _macro_f1(answers: NDArray[np.integer], labels: NDArray[np.integer], classes: int) -> float:
    right = np.bincount(labels[answers == labels], minlength=classes)
    seen = np.bincount(labels, minlength=classes) + np.bincount(answers, minlength=classes)
    present = seen > 0
    return float((2 * right[present] / seen[present]).mean())
