"""Rendered views: every view of every picture of the train part, made once and mapped by all trials."""

from collections.abc import Iterable
from pathlib import Path

from hkbench.config import usable_cores
from hkbench.data.augment import ViewTable
from hkbench.data.splits import Split
from hkbench.data.store import PictureStore
from hkbench.store.blocks import Advance
from hkbench.training.ahead import ahead_path, fits_ahead, make_ahead, render


def rendered_views(
    stores: Iterable[PictureStore], split: Split, table: ViewTable, *, advance: Advance | None = None
) -> dict[int, Path]:
    """Return the files of the rendered views by size, uint8 (views, train, size, size, 3), made if missing.

    Sizes that would take too much memory or disk, together with those before them, are left out: their
    batches are rendered when they are due, to the very same pixels.
    """
    views, train = table.parameters.shape[0], len(split.train)
    found: dict[int, Path] = {}
    taken = 0
    for store in sorted(stores, key=lambda store: store.size):
        path = ahead_path("rendered", store.key, split.hash, table.key)
        taken += views * train * store.size**2 * 3
        if path.exists() or fits_ahead(taken):
            _make(path, store, split, table, advance)
            found[store.size] = path
    return found


def _make(path: Path, store: PictureStore, split: Split, table: ViewTable, advance: Advance | None) -> None:
    make_ahead(
        path,
        (table.parameters.shape[0], len(split.train), store.size, store.size, 3),
        "uint8",
        lambda views, positions: render(store, split, table, views, positions).permute(0, 2, 3, 1).numpy(),
        workers=usable_cores(),
        advance=advance,
    )
