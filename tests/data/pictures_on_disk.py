"""Small data sets for the tests of this room."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from hkbench.data.source import Source

CLASSES = ("chair", "lamp", "sofa")


def encoded(seed: int, size: tuple[int, int] = (24, 20), file_format: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, file_format)
    return content.getvalue()


def class_folders(root: Path, per_class: int = 4, classes: tuple[str, ...] = CLASSES) -> Path:
    """Write root/<class>/product<i % 3>_<i>.png."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(per_class):
            path = root / name / f"product{index % 3}_{index}.png"
            path.write_bytes(encoded(1_000 * label + index))
    return root


class Memory:
    """Reads encoded pictures from a list; can be pickled."""

    def __init__(self, contents: list[bytes]) -> None:
        self.contents = contents

    def __call__(self, index: int) -> bytes:
        return self.contents[index]


def memory_source(contents: list[bytes], classes: tuple[str, ...] = CLASSES) -> Source:
    """Deal `contents` to the classes in turn."""
    count = len(contents)
    labels = np.arange(count, dtype=np.int64) % len(classes)
    return Source(
        name="memory",
        classes=classes,
        ids=tuple(f"{classes[label]}/{index:04}.png" for index, label in enumerate(labels)),
        labels=labels,
        groups=tuple(f"{classes[label]}/{index // len(classes) % 3}" for index, label in enumerate(labels)),
        fingerprint=hashlib.sha256(b"".join(contents)).hexdigest(),
        read=Memory(contents),
    )


def write_parquet(path: Path, per_class: int = 4, rows_per_group: int = 5) -> list[bytes]:
    """Write a file as tools/goods69 does; return the encoded pictures."""
    labels = [label for label in range(len(CLASSES)) for _ in range(per_class)]
    contents = [encoded(index, file_format="WEBP") for index in range(len(labels))]
    image = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
    features = {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}
    schema = pa.schema(
        [("image", image), ("label", pa.int64()), ("class_name", pa.string()), ("group", pa.string())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    rows = [
        {
            "image": {"bytes": content, "path": f"{CLASSES[label]}/{index:04}.webp"},
            "label": label,
            "class_name": CLASSES[label],
            "group": f"{CLASSES[label]}-{index % 3}",
        }
        for index, (content, label) in enumerate(zip(contents, labels, strict=True))
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=rows_per_group)
    return contents
