"""The data sets that have a name, and the way from a name or a folder to a `Source`."""

from collections.abc import Callable
from pathlib import Path

from hkbench.data import goods69
from hkbench.data.folder import open_folder
from hkbench.data.source import Source
from hkbench.errors import UsageError, unknown

__all__ = ["DATASETS", "Source", "open_source"]

DATASETS: dict[str, Callable[[], Source]] = {
    "goods69": goods69.open_source,
}


def open_source(name_or_path: str, group_by: str | None = None) -> Source:
    """Open a data set by its name, or a folder with one sub-folder of pictures for each class.

    `group_by` says which pictures of a folder show the same product: "subfolder" (the sub-folder inside
    the class folder) or a regular expression with one capture group, matched on the file name from its
    start. A product belongs to one class, so equal captures in two classes are two groups.

    Raises:
        UsageError: no such name or folder; a folder that isn't a data set; a `group_by` that doesn't fit.
        HkbenchError: a data set whose file isn't there.
    """
    if name_or_path in DATASETS:
        if group_by is not None:
            raise UsageError(
                f"'{name_or_path}' brings its own groups, so --group-by '{group_by}' doesn't apply. "
                "Leave --group-by out."
            )
        return DATASETS[name_or_path]()
    folder = Path(name_or_path).expanduser()
    if not folder.is_dir():
        raise unknown("data set or folder", name_or_path, DATASETS)
    return open_folder(folder, group_by)
