"""Rendered views: every view of every picture of the train part, made once and mapped by all trials."""

from pathlib import Path

from hkbench.config import usable_cores
from hkbench.data.augment import ViewTable
from hkbench.data.splits import Split
from hkbench.data.store import PictureStore
from hkbench.training.ahead import Advance, ahead_path, fits_ahead, make_ahead, render


def rendered_views(
    store: PictureStore, split: Split, table: ViewTable, *, advance: Advance | None = None
) -> Path | None:
    """Return the file of the rendered views, uint8 (views, train, size, size, 3); made if it isn't there.

    None if it would take too much memory or disk: then each batch is rendered when it is due, to the very
    same pixels.
    """
    path = ahead_path("rendered", store.key, split.hash, table.key)
    shape = (table.parameters.shape[0], len(split.train), store.size, store.size, 3)
    if not path.exists() and not fits_ahead(shape[0] * shape[1] * store.size**2 * 3):
        return None
    make_ahead(
        path,
        shape,
        "uint8",
        lambda views, positions: render(store, split, table, views, positions).permute(0, 2, 3, 1).numpy(),
        workers=usable_cores(),
        advance=advance,
    )
    return path
