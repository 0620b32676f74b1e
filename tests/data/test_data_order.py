from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hkbench.data.order import advise_window, epoch_windows
from hkbench.store.blocks import make_once, open_blocks
from hkbench.store.journal import Layout

ROW_BYTES = 3 * 64 * 64
CLASSES = 50
PICTURES = 100_000
MEMORY = 300_000_000


def order(rows: np.ndarray, seed: int, memory_bytes: int = MEMORY) -> np.ndarray:
    return np.concatenate(
        epoch_windows(rows, np.random.default_rng(seed), store_row_bytes=ROW_BYTES, memory_bytes=memory_bytes)
    )


@settings(deadline=None, max_examples=30)
@given(
    count=st.integers(0, 3_000),
    row_bytes=st.sampled_from([1, 3_072, 12_288, 3_000_000]),
    memory_bytes=st.integers(0, 40_000_000),
)
def test_every_picture_comes_once(count: int, row_bytes: int, memory_bytes: int) -> None:
    rows = np.random.default_rng(0).permutation(5_000)[:count]
    found = np.concatenate(
        epoch_windows(rows, np.random.default_rng(1), store_row_bytes=row_bytes, memory_bytes=memory_bytes)
    )
    assert found.dtype == np.int64
    assert np.array_equal(np.sort(found), np.arange(count))


def test_the_same_state_gives_the_same_order_and_another_another() -> None:
    rows = np.arange(PICTURES)
    assert np.array_equal(order(rows, 1), order(rows, 1))
    assert not np.array_equal(order(rows, 1), order(rows, 2))


def test_reads_within_a_window_are_runs_of_a_megabyte() -> None:
    windows = epoch_windows(
        np.arange(PICTURES), np.random.default_rng(0), store_row_bytes=ROW_BYTES, memory_bytes=MEMORY
    )
    assert len(windows) == 13
    for window in windows:
        runs = np.count_nonzero(np.diff(np.sort(window)) > 1) + 1
        assert len(window) * ROW_BYTES <= MEMORY / 2
        assert len(window) * ROW_BYTES / runs > 900_000


def test_classes_mix_as_in_a_plain_shuffle() -> None:
    """In a store that is sorted by class; classes in a batch of 64, on average."""
    labels = np.arange(PICTURES) // (PICTURES // CLASSES)

    def classes_in_a_batch(found: np.ndarray) -> float:
        batches = labels[found[: PICTURES // 64 * 64]].reshape(-1, 64)
        return float(np.mean([len(np.unique(batch)) for batch in batches]))

    plain = classes_in_a_batch(np.random.default_rng(0).permutation(PICTURES))
    windowed = classes_in_a_batch(order(np.arange(PICTURES), 0))
    assert windowed > 0.95 * plain


def test_a_window_can_be_asked_for_ahead(tmp_path: Path) -> None:
    layout = Layout(shape=(1_000, 3, 8, 8), dtype="uint8", block_rows=1_000)
    values = np.random.default_rng(0).integers(0, 256, layout.shape, dtype=np.uint8)
    make_once(tmp_path / "pictures.npy", layout, lambda maker: maker.write(0, values))
    mapped = open_blocks(tmp_path / "pictures.npy")
    rows = np.array([999, 0, 1, 2, 500, 503])
    assert advise_window(mapped, rows) in (0, 3)
    assert advise_window(values, rows) == 0
    assert advise_window(mapped, rows[:0]) == 0
    assert np.array_equal(mapped[rows], values[rows])
