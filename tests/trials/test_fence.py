"""Workers of a driver that was killed write no checkpoint any more."""

import pytest

from hkbench.training.checkpoint import DamagedCheckpointError, load_checkpoint, save_checkpoint
from hkbench.trials.checkpoint_store import CheckpointStore
from hkbench.trials.fence import Fence, FencedOffError


def test_a_later_run_shuts_out_the_workers_of_the_one_before(tmp_path):
    old = Fence.raised(CheckpointStore.at(tmp_path))
    old.check(3)
    new = Fence.raised(CheckpointStore.at(tmp_path))
    new.check(3)
    with pytest.raises(FencedOffError, match="of run 1, attempt 0; now it is run 2"):
        old.check(3)


def test_a_worker_that_froze_is_shut_out_of_its_trial_alone(tmp_path):
    fence = Fence.raised(CheckpointStore.at(tmp_path))
    fence.begin_attempt(3, 1)
    with pytest.raises(FencedOffError):
        fence.check(3)
    fence.of_attempt(1).check(3)
    fence.check(4)


def test_a_checkpoint_is_not_replaced_by_a_worker_that_is_shut_out(tmp_path):
    path = tmp_path / "00003.pt"
    old = Fence.raised(CheckpointStore.at(tmp_path))
    save_checkpoint(path, {"epoch": 1}, lambda: old.check(3))
    Fence.raised(CheckpointStore.at(tmp_path))
    with pytest.raises(FencedOffError):
        save_checkpoint(path, {"epoch": 2}, lambda: old.check(3))
    assert load_checkpoint(path) == {"epoch": 1}
    assert not list(tmp_path.glob(".*.tmp"))


def test_what_dead_workers_left_is_cleared(tmp_path):
    Fence.raised(CheckpointStore.at(tmp_path)).begin_attempt(3, 2)
    (tmp_path / ".00001.pt.77.tmp").write_bytes(b"half")
    (tmp_path / "00001.hung").write_text("File nowhere")
    (tmp_path / "00001.pt").write_bytes(b"whole")
    Fence.raised(CheckpointStore.at(tmp_path)).check(3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00001.pt", "fence"]


def test_a_run_directory_that_is_gone_is_nobodys(tmp_path):
    fence = Fence.raised(CheckpointStore.at(tmp_path / "checkpoints"))
    (tmp_path / "checkpoints" / "fence").unlink()
    with pytest.raises(FencedOffError):
        fence.check(0)


def test_a_checkpoint_torn_anywhere_is_called_damaged(tmp_path):
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"weights": list(range(5000)), "epoch": 3})
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedCheckpointError):
            load_checkpoint(path)
    path.unlink()
    with pytest.raises(DamagedCheckpointError):
        load_checkpoint(path)
