"""The layout of an array that is made in blocks, and the journal of its checksums beside it."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hkbench.store.atomic import write_text


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What an array is: its shape, its dtype's name and how many rows make a block."""

    shape: tuple[int, ...]
    dtype: str
    block_rows: int

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 0 or self.block_rows < 1:
            raise ValueError(f"no array has the shape {self.shape} in blocks of {self.block_rows} rows")

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return -(-self.shape[0] // self.block_rows)

    @property
    def row_bytes(self) -> int:
        """How many bytes a row takes."""
        return math.prod(self.shape[1:]) * np.dtype(self.dtype).itemsize

    def rows(self, block: int) -> range:
        """Return the rows of a block."""
        return range(block * self.block_rows, min((block + 1) * self.block_rows, self.shape[0]))

    def header(self) -> bytes:
        """Return what an `.npy` file of this array begins with."""
        described = (
            f"{{'descr': '{np.dtype(self.dtype).str}', 'fortran_order': False, "
            f"'shape': {tuple(map(int, self.shape))}, }}"
        )
        magic = np.lib.format.magic(1, 0)
        padding = -(len(magic) + 2 + len(described) + 1) % 64
        text = described + " " * padding + "\n"
        return magic + len(text).to_bytes(2, "little") + text.encode("latin1")


def part_of(path: Path) -> Path:
    """Return where an array lies while it is being made."""
    return path.with_name(path.name + ".part")


def journal_of(path: Path) -> Path:
    """Return where the checksums of an array's blocks lie."""
    return path.with_name(path.name + ".blocks")


def write_journal(path: Path, layout: Layout, checksums: dict[int, int]) -> None:
    """Write the journal of the array at `path` anew, with the checksums of these blocks."""
    first = {"shape": layout.shape, "dtype": layout.dtype, "block_rows": layout.block_rows}
    lines = [first, *({"block": block, "crc32": crc} for block, crc in sorted(checksums.items()))]
    write_text(journal_of(path), "".join(json.dumps(line) + "\n" for line in lines))


def read_journal(path: Path) -> tuple[Layout, dict[int, int]] | None:
    """Return the layout and the checksums by block; None if there is no journal that makes sense."""
    try:
        first, *lines = journal_of(path).read_text(encoding="utf-8").split("\n")
        read = json.loads(first)
        layout = Layout(
            shape=tuple(map(int, read["shape"])),
            dtype=str(read["dtype"]),
            block_rows=int(read["block_rows"]),
        )
        np.dtype(layout.dtype)
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError):
        return None
    checksums = {}
    for line in lines:
        try:
            noted = json.loads(line)
            checksums[int(noted["block"])] = int(noted["crc32"])
        except (ValueError, KeyError, TypeError, ArithmeticError):  # the empty end, or a torn line
            continue
    return layout, {block: crc for block, crc in checksums.items() if 0 <= block < layout.blocks}
