"""A contact sheet: every class with a few of its models."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

CLASSES_ACROSS = 3
LABEL_PX = 20
GAP_PX = 8


def spaced(items: list[str], wanted: int) -> list[str]:
    """Up to `wanted` items, evenly apart, the first one included."""
    if len(items) <= wanted:
        return items
    return [items[index * len(items) // wanted] for index in range(wanted)]


def pictures_by_class(path: Path, across: int) -> dict[str, list[bytes]]:
    """`across` pictures of each class, of different models as far as there are enough."""
    table = pq.read_table(path, columns=["image", "class_name", "group"])
    names, groups = table["class_name"].to_pylist(), table["group"].to_pylist()
    rows: dict[str, dict[str, list[int]]] = {}
    for index, (name, group) in enumerate(zip(names, groups, strict=True)):
        rows.setdefault(name, {}).setdefault(group, []).append(index)
    images = table["image"]
    chosen: dict[str, list[bytes]] = {}
    for name, by_group in rows.items():
        picked = spaced(sorted(by_group), across)
        slots = [picked[slot % len(picked)] for slot in range(across)]
        # Another view each time, so that the sheet shows more than each model's first one.
        indices = [by_group[g][slot % len(by_group[g])] for slot, g in enumerate(slots)]
        chosen[name] = [images[index].as_py()["bytes"] for index in indices]
    return chosen


def write_sheet(path: Path, pictures: Path, *, across: int = 4, cell_px: int = 96) -> None:
    """Draw the sheet of the Parquet file `pictures`; the format follows the name of `path`."""
    chosen = pictures_by_class(pictures, across)
    block_width = across * cell_px + GAP_PX
    block_height = cell_px + LABEL_PX + GAP_PX
    down = -(-len(chosen) // CLASSES_ACROSS)
    sheet = Image.new("RGB", (CLASSES_ACROSS * block_width, down * block_height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    for number, (name, encoded) in enumerate(chosen.items()):
        left = number % CLASSES_ACROSS * block_width
        top = number // CLASSES_ACROSS * block_height
        draw.text((left + 2, top), name, fill="black", font=font)
        for slot, data in enumerate(encoded):
            with Image.open(io.BytesIO(data)) as image:
                cell = image.resize((cell_px, cell_px), Image.Resampling.LANCZOS)
            sheet.paste(cell, (left + slot * cell_px, top + LABEL_PX))
    sheet.save(path, quality=85)
