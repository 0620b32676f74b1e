"""Gathers the shards into one Parquet file as the Hugging Face image convention has it."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from . import TOOL_VERSION
from .catalogue import Model
from .shards import Look, read_renderer, read_shard

ROWS_PER_GROUP = 1_000
CREDIT_COLUMNS = ("catalogue", "model_path", "name", "creator", "license", "class", "group")
IMAGE_TYPE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the file."""

    webp: bytes
    path: str
    label: int
    model: Model


def huggingface_features(class_names: list[str]) -> dict[str, object]:
    """The features that `datasets` reads from the schema's metadata."""
    string = {"dtype": "string", "_type": "Value"}
    return {
        "image": {"_type": "Image"},
        "label": {"names": class_names, "_type": "ClassLabel"},
        "class_name": string,
        "group": string,
        "catalogue": string,
        "license": string,
    }


def schema(class_names: list[str], look: Look, renderer: str) -> pa.Schema:
    """The columns, with where the pictures come from in the metadata."""
    features = {"info": {"features": huggingface_features(class_names)}}
    return pa.schema(
        [
            ("image", IMAGE_TYPE),
            ("label", pa.int64()),
            ("class_name", pa.string()),
            ("group", pa.string()),
            ("catalogue", pa.string()),
            ("license", pa.string()),
        ],
        metadata={
            "huggingface": json.dumps(features),
            "goods69.seed": str(look.seed),
            "goods69.size_px": str(look.size_px),
            "goods69.webp_quality": str(look.quality),
            "goods69.tool_version": TOOL_VERSION,
            "goods69.renderer": renderer,
        },
    )


def picture_path(model: Model, view_index: int) -> str:
    """The picture's id, such as `desk_lamp/Scopia-flexo-0003.webp`."""
    return f"{model.class_name.replace(' ', '_')}/{model.slug}-{view_index:04d}.webp"


def rows(models: list[Model], views: dict[str, int], shards: Path, look: Look) -> Iterator[Row]:
    """Every picture, in the order of class, group and view."""
    labels = {name: index for index, name in enumerate(sorted({m.class_name for m in models}))}
    for model in models:
        shots = read_shard(shards / f"{model.slug}.parquet", look)
        for shot in shots[: views.get(model.group, 0)]:
            yield Row(
                webp=shot.webp,
                path=picture_path(model, shot.view_index),
                label=labels[model.class_name],
                model=model,
            )


def _batch(chunk: list[Row], columns: pa.Schema) -> pa.Table:
    return pa.table(
        {
            "image": pa.array([{"bytes": r.webp, "path": r.path} for r in chunk], IMAGE_TYPE),
            "label": pa.array([r.label for r in chunk], pa.int64()),
            "class_name": [r.model.class_name for r in chunk],
            "group": [r.model.group for r in chunk],
            "catalogue": [r.model.catalogue for r in chunk],
            "license": [r.model.license for r in chunk],
        },
        schema=columns,
    )


def write_pictures(path: Path, models: list[Model], views: dict[str, int], shards: Path, look: Look) -> int:
    """Write the file and return how many pictures it holds."""
    class_names = sorted({model.class_name for model in models})
    drawn = next(model for model in models if model.group in views)
    columns = schema(class_names, look, read_renderer(shards / f"{drawn.slug}.parquet"))
    beside = path.with_suffix(".tmp")
    total = 0
    chunk: list[Row] = []
    # WebP does not shrink further; the other columns are dictionaries and do.
    with pq.ParquetWriter(beside, columns, compression="zstd") as writer:
        for row in rows(models, views, shards, look):
            chunk.append(row)
            total += 1
            if len(chunk) == ROWS_PER_GROUP:
                writer.write_table(_batch(chunk, columns))
                chunk = []
        if chunk:
            writer.write_table(_batch(chunk, columns))
    beside.replace(path)
    return total


def write_credits(path: Path, models: list[Model], views: dict[str, int]) -> None:
    """Whom to credit: a row for each model that is in the file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CREDIT_COLUMNS)
        for m in models:
            if views.get(m.group, 0):
                writer.writerow(
                    (m.catalogue, m.model_path, m.name, m.creator, m.license, m.class_name, m.group)
                )


def sha256(path: Path) -> str:
    """The file's checksum, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
