"""The shipped teacher as an ONNX file, for runs that are kept without it: the package holds its weights."""

import logging
from pathlib import Path

from hkbench.config import cache_dir
from hkbench.store.records import ModelRecord

log = logging.getLogger(__name__)


def shipped_teacher_file(model: ModelRecord) -> Path | None:
    """Return the file of a shipped teacher, exported into the cache; None if `model` is no such teacher.

    Equal weights make equal bytes under equal versions, so the caller can check it by its SHA-256.
    """
    if model.role != "teacher":
        return None
    path = cache_dir() / "teachers" / f"{model.sha256}.onnx"
    if not path.is_file():
        _export(model, path)
    return path if path.is_file() else None


def _export(model: ModelRecord, path: Path) -> None:
    # torch takes seconds to import, and a run that holds all its files doesn't need it.
    from hkbench.export.onnx import export_onnx
    from hkbench.training.teacher import load_teacher, shipped_folder

    for folder in sorted(shipped_folder().glob("*/")):
        teacher = load_teacher(folder, shipped=True)
        recipe = teacher.record.recipe
        if (recipe.model, recipe.image_size) == (model.model, model.image_size):
            log.info("exporting the shipped teacher to %s", path)
            export_onnx(
                teacher.network(),
                path,
                image_size=recipe.image_size,
                labels=teacher.record.classes,
                metadata={"split": teacher.record.split_hash},
            )
            return
