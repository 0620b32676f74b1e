"""Reads Wavefront OBJ and MTL files.

VTK's own importer crashes on some of the catalogues' files and loses textures whose names differ
in case or hold spaces, so the reading is done here.
Source: the Wavefront OBJ and MTL formats, statements v, vt, vn, f, usemtl, mtllib and
newmtl, Kd, d, Tr, map_Kd.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .errors import RefusedModelError

UNKNOWN = -1


@dataclass(frozen=True, kw_only=True)
class Material:
    """What of a material is rendered."""

    diffuse: tuple[float, float, float] = (0.8, 0.8, 0.8)
    opacity: float = 1.0
    texture: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """The polygons of one material."""

    material: Material
    corners: np.ndarray
    """(corners, 3) int64: indices of position, texture coordinate and normal, or UNKNOWN."""
    offsets: np.ndarray
    """(polygons + 1,) int64: where each polygon begins in `corners`."""


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """A whole model."""

    positions: np.ndarray
    """(n, 3) float64."""
    texture_coordinates: np.ndarray
    """(n, 2) float64."""
    normals: np.ndarray
    """(n, 3) float64."""
    parts: list[Part]


@dataclass
class _Builder:
    corners: list[tuple[int, int, int]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=lambda: [0])


def _statements(path: Path) -> Iterator[tuple[str, str]]:
    text = path.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
    for line in text.splitlines():
        words = line.split(maxsplit=1)
        if words and not words[0].startswith("#"):
            yield words[0], words[1].strip() if len(words) > 1 else ""


def find_beside(folder: Path, name: str) -> Path | None:
    """The file `name` in `folder`, whatever the case of its letters; None when there is none."""
    wanted = name.replace("\\", "/").strip().strip('"')
    exact = folder / wanted
    if exact.is_file():
        return exact
    last = wanted.rpartition("/")[2].lower()
    return next((path for path in sorted(folder.iterdir()) if path.name.lower() == last), None)


def _find_texture(folder: Path, rest: str) -> Path | None:
    # Options such as `-s 1 1 1` come before the name, and the name itself may hold spaces.
    words = rest.split()
    for start in range(len(words)):
        found = find_beside(folder, " ".join(words[start:]))
        if found is not None:
            return found
    return None


def read_materials(path: Path) -> dict[str, Material]:
    """The materials of an MTL file, by name."""
    materials: dict[str, Material] = {}
    name = ""
    for keyword, rest in _statements(path):
        if keyword == "newmtl":
            name = rest
            materials[name] = Material()
            continue
        if name not in materials:
            continue
        old = materials[name]
        diffuse, opacity, texture = old.diffuse, old.opacity, old.texture
        if keyword == "Kd":
            red, green, blue = (float(word) for word in rest.split()[:3])
            diffuse = (red, green, blue)
        elif keyword == "d":
            opacity = float(rest.split()[-1])
        elif keyword == "Tr":
            opacity = 1 - float(rest.split()[-1])
        elif keyword == "map_Kd":
            texture = _find_texture(path.parent, rest)
        materials[name] = Material(diffuse=diffuse, opacity=opacity, texture=texture)
    return materials


def _index(word: str, known: int) -> int:
    # OBJ counts from 1, or backwards from the last one read.
    if not word:
        return UNKNOWN
    number = int(word)
    index = number - 1 if number > 0 else known + number
    return index if 0 <= index < known else UNKNOWN


def _corner(word: str, known: tuple[int, int, int]) -> tuple[int, int, int]:
    position, texture, normal = [*word.split("/"), "", ""][:3]
    return _index(position, known[0]), _index(texture, known[1]), _index(normal, known[2])


def _as_array(rows: list[list[float]], columns: int) -> np.ndarray:
    return np.array(rows, dtype=np.float64).reshape(-1, columns)


def read_mesh(path: Path) -> Mesh:
    """The mesh of an OBJ file, its polygons sorted by material.

    Raises RefusedModelError when the file holds no polygon.
    """
    vectors: dict[str, list[list[float]]] = {"v": [], "vt": [], "vn": []}
    materials: dict[str, Material] = {}
    builders: dict[str, _Builder] = {}
    material_name = ""
    for keyword, rest in _statements(path):
        if keyword in vectors:
            width = 2 if keyword == "vt" else 3
            vectors[keyword].append([float(word) for word in rest.split()[:width]])
        elif keyword == "f":
            known = (len(vectors["v"]), len(vectors["vt"]), len(vectors["vn"]))
            corners = [_corner(word, known) for word in rest.split()]
            if len(corners) >= 3 and all(corner[0] != UNKNOWN for corner in corners):
                builder = builders.setdefault(material_name, _Builder())
                builder.corners.extend(corners)
                builder.offsets.append(len(builder.corners))
        elif keyword == "usemtl":
            material_name = rest
        elif keyword == "mtllib" and (library := find_beside(path.parent, rest)) is not None:
            materials.update(read_materials(library))
    if not builders:
        raise RefusedModelError("the OBJ file holds no polygon")
    parts = [
        Part(
            material=materials.get(name, Material()),
            corners=np.array(builder.corners, dtype=np.int64),
            offsets=np.array(builder.offsets, dtype=np.int64),
        )
        for name, builder in builders.items()
    ]
    return Mesh(
        positions=_as_array(vectors["v"], 3),
        texture_coordinates=_as_array(vectors["vt"], 2),
        normals=_as_array(vectors["vn"], 3),
        parts=parts,
    )
