"""A Parquet file of pictures as Hugging Face's `datasets` writes them, as a source."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hkbench.data.source import Source
from hkbench.errors import HkbenchError


class ParquetReader:
    """Reads encoded pictures by row. Keeps the row group of the last one, for reads mostly go in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None
        self._held = -1
        self._pictures: Any = None

    def __reduce__(self) -> tuple[type["ParquetReader"], tuple[Path]]:
        return ParquetReader, (self.path,)

    def __call__(self, index: int) -> bytes:
        """Return the bytes of one picture."""
        if self._file is None:
            self._file = pq.ParquetFile(self.path, memory_map=True)
            metadata = self._file.metadata
            rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            self._starts = np.cumsum([0, *rows])
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        if group != self._held:
            table = self._file.read_row_group(group, columns=["image.bytes"])
            self._pictures = table["image"].combine_chunks().field("bytes")
            self._held = group
        content: bytes = self._pictures[index - int(self._starts[group])].as_py()
        return content


def open_parquet(path: Path, name: str) -> Source:
    """Open a file with the columns image (bytes and path), label and group, and class names in its metadata.

    The pictures themselves stay unread. The fingerprint is the file's SHA-256, for the file holds names,
    bytes and labels and nothing that changes by itself.

    Raises:
        HkbenchError: the file is damaged, or isn't of this form.
    """
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            table = file.read(columns=["image.path", "label", "group"])
        features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
        classes = tuple(features["label"]["names"])
        ids = tuple(table["image"].combine_chunks().field("path").to_pylist())
        groups = tuple(table["group"].to_pylist())
        labels = table["label"].to_numpy().astype(np.int64)
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise HkbenchError(
            f"{path} can't be read as a Parquet file of labelled pictures ({error!r}). "
            "Make or download it again."
        ) from error
    with path.open("rb") as content:
        fingerprint = hashlib.file_digest(content, "sha256").hexdigest()
    return Source(
        name=name,
        classes=classes,
        ids=ids,
        labels=labels,
        groups=groups,
        fingerprint=fingerprint,
        read=ParquetReader(path),
    )
