"""The pictures of one model on disk, so that a stopped run goes on where it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from . import TOOL_VERSION

_KEY = b"goods69"


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the pixels depend on besides the model and the view's index."""

    seed: int
    size_px: int
    quality: int

    @property
    def stamp(self) -> bytes:
        """What a shard must carry to be used again."""
        return f"{TOOL_VERSION}|{self.seed}|{self.size_px}|{self.quality}".encode()


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One encoded picture."""

    view_index: int
    webp: bytes


def write_shard(path: Path, look: Look, shots: list[Shot], renderer: str) -> None:
    """Write beside `path` and rename, so that a half-written shard is never read."""
    table = pa.table(
        {
            "view_index": pa.array([shot.view_index for shot in shots], pa.int64()),
            "webp": pa.array([shot.webp for shot in shots], pa.binary()),
        }
    ).replace_schema_metadata({_KEY: look.stamp, b"renderer": renderer.encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    pq.write_table(table, beside, compression="none")
    beside.replace(path)


def read_shard(path: Path, look: Look) -> list[Shot]:
    """The pictures of a shard made with the same look; none when there is no such shard."""
    if not path.exists():
        return []
    table = pq.read_table(path)
    if (table.schema.metadata or {}).get(_KEY) != look.stamp:
        return []
    columns = table.to_pydict()
    return [
        Shot(view_index=index, webp=webp)
        for index, webp in zip(columns["view_index"], columns["webp"], strict=True)
    ]


def read_renderer(path: Path) -> str:
    """The renderer that drew a shard, such as `VTK 9.7.2`."""
    metadata: dict[bytes, bytes] = pq.read_schema(path).metadata
    return metadata[b"renderer"].decode()
