"""A trial that was not shipped, from a checkpoint in a folder or an object store."""

import errno

import pytest
import torch
from small_run import ARCHITECTURE, finalist, parts_in, run_in, trained

from hkbench.errors import HkbenchError, UsageError
from hkbench.shipping.unshipped import unshipped
from hkbench.store.records import TrialRecord
from hkbench.training.checkpoint import save_checkpoint
from hkbench.trials.checkpoint_store import CheckpointStore
from hkbench.trials.patience import StorageError


@pytest.fixture
def parts(tmp_path):
    return parts_in(tmp_path / "pictures")


@pytest.fixture
def run(tmp_path, parts):
    """Return a run with one trial, and neither a model nor a checkpoint."""
    run = run_in(tmp_path / "run", parts)
    run.append(
        TrialRecord(
            number=3,
            state="PRUNED",
            params={"loss": "hard"},
            settings=ARCHITECTURE.model_dump() | {"loss": "hard", "optimizer": "adamw", "weights": None},
            model=ARCHITECTURE.label,
            image_size=ARCHITECTURE.image_size,
            loss="hard",
            weight_hard=1.0,
            weight_soft=0.0,
            epochs=1,
            values={},
        )
    )
    return run


@pytest.fixture(params=["in the run", "elsewhere"])
def checkpoint_of(request, run, tmp_path):
    if request.param == "in the run":
        return None
    return CheckpointStore(where=str(tmp_path / "shared" / "small-1")).of_trial


def test_its_weights_are_those_of_the_checkpoint(run, parts, checkpoint_of):
    network = trained(parts)
    path = run.path / "checkpoints" / "00003.pt" if checkpoint_of is None else checkpoint_of(3)
    save_checkpoint(path, {"training": {"network": network.state_dict(), "average": None}})
    found = unshipped(run, 3, run.read_run().data, checkpoint_of)
    assert (found.id, found.architecture) == (finalist(network).id, ARCHITECTURE)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(found.network.state_dict()[name], tensor, rtol=0, atol=0)


def test_what_is_missing_is_named(run, checkpoint_of, tmp_path):
    data = run.read_run().data
    where = run.path / "checkpoints" if checkpoint_of is None else tmp_path / "shared" / "small-1"
    with pytest.raises(UsageError, match=f"no checkpoint {where}/00003.pt"):
        unshipped(run, 3, data, checkpoint_of)
    with pytest.raises(UsageError, match="trial 4: it is none of its trials"):
        unshipped(run, 4, data, checkpoint_of)


class OutOfReach:
    """A bucket that this machine has no credentials for."""

    def exists(self):
        raise StorageError("s3://bucket/it can't be reached") from OSError(errno.EACCES, "denied")

    def __str__(self):
        return "s3://bucket/it/00003.pt"


def test_a_store_out_of_reach_is_said_with_what_is_needed(run):
    with pytest.raises(HkbenchError, match=r"s3://bucket/it/00003\.pt can't be reached.*denied.*credentials"):
        unshipped(run, 3, run.read_run().data, lambda number: OutOfReach())
