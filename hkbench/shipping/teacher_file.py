"""The shipped teacher as an ONNX file, for runs that are kept without it: the package holds its weights."""

import logging
import tempfile
from pathlib import Path

from hkbench.config import cache_dir
from hkbench.shipping.facts import metadata_of
from hkbench.store.records import ModelRecord

log = logging.getLogger(__name__)


def shipped_teacher_file(model: ModelRecord) -> Path | None:
    """Return the file of a shipped teacher, exported into the cache, or None.

    None means that `model` is no shipped teacher, or that the export made here is another file than the
    run's: equal weights make equal bytes, but only under equal versions of torch and onnx.
    """
    if model.role != "teacher":
        return None
    path = cache_dir() / "teachers" / f"{model.sha256}.onnx"
    return path if path.is_file() or _export(model, path) else None


def _export(model: ModelRecord, path: Path) -> bool:
    """Put the file at `path`, if it comes out as the one that `model` records."""
    # torch takes seconds to import, and a run that holds all its files doesn't need it.
    from hkbench.export.onnx import export_onnx
    from hkbench.training.teacher import load_teacher, shipped_folder

    for folder in sorted(shipped_folder().glob("*/")):
        teacher = load_teacher(folder, shipped=True)
        recipe = teacher.record.recipe
        if (recipe.model, recipe.image_size) != (model.model, model.image_size):
            continue
        log.info("exporting the shipped teacher to %s", path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as temporary:
            artifact = export_onnx(
                teacher.network(),
                Path(temporary) / "model.onnx",
                image_size=recipe.image_size,
                labels=teacher.record.classes,
                metadata=metadata_of(model, teacher.record.split_hash),
            )
            if artifact.sha256 == model.sha256:
                artifact.path.replace(path)
                return True
        log.warning(
            "the shipped teacher %s comes out as another file than the run's: expected SHA-256 %s…, "
            "found %s…. Install the versions of torch and onnx that run.json names to measure it too",
            recipe.model,
            model.sha256[:12],
            artifact.sha256[:12],
        )
    return False
