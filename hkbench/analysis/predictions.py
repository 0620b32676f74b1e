"""`predictions.parquet`: what each kept model answered.

One row a model and picture: `model_id`, `part`, `picture_id`, `group` (null where pictures have none),
`label` (int32) and `logits` (a fixed-size list of float16). Rows keep the order in which they were
written. It is the one source of metrics, intervals, comparisons and confusion.
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


def add_predictions(path: Path, blocks: Sequence[PredictionBlock]) -> None:
    """Add blocks to what a file holds; those of the same model and part replace what was there.

    Raises:
        UsageError: the file can't be read, or the disk is full.
    """
    new = {(block.model_id, block.part) for block in blocks}
    kept = [block for block in read_predictions(path) if (block.model_id, block.part) not in new]
    write_predictions(path, [*kept, *blocks])


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
    from sklearn.metrics import confusion_matrix

    counts: NDArray[np.int64] = confusion_matrix(
        block.labels, block.logits.argmax(axis=1), labels=np.arange(block.logits.shape[1])
    )
    return counts


def class_accuracy(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each class's share of right answers from a confusion matrix; NaN for one without pictures."""
    pictures = counts.sum(axis=1)
    shares = np.full(len(counts), np.nan)
    np.divide(counts.diagonal(), pictures, out=shares, where=pictures > 0)
    return shares
