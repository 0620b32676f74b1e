"""A run's network trained on with int8's rounding simulated, taught by itself."""

import pytest
import torch
from small_run import export_once, finalist, float_record, run_in, trained

from hkbench.errors import UsageError
from hkbench.export.onnx import torch_logits
from hkbench.shipping.float32 import ship_float
from hkbench.shipping.tune import tune
from hkbench.store.rundir import RunDirectory

EPOCHS = 2


@pytest.fixture(scope="module")
def run(parts, tmp_path_factory) -> RunDirectory:
    run = run_in(tmp_path_factory.mktemp("run") / "small", parts)
    with pytest.MonkeyPatch.context() as patch:
        export_once(patch)
        ship_float(finalist(trained(parts)), parts, run, read=("validation",))
    return run


def test_the_network_comes_back_trained_and_unrounded(run, parts):
    record, told = float_record(run, "trial-003"), []
    threads = torch.get_num_threads()
    weights = (run.models / record.id / "model.safetensors").read_bytes()
    network, epochs = tune(
        run,
        record,
        parts,
        epochs=EPOCHS,
        on_epoch=lambda result, total: told.append((result.epoch, total)),
    )
    assert epochs == EPOCHS
    assert told == [(1, EPOCHS), (2, EPOCHS)]
    before = trained(parts)
    assert sorted(network.state_dict()) == sorted(before.state_dict())
    assert not torch.equal(network.body[4].weight, before.body[4].weight)
    assert not network.training
    logits = torch_logits(network, parts.pictures("validation"))
    assert (logits.argmax(axis=1) == parts.labels("validation")).mean() > 0.9
    assert torch.get_num_threads() == threads
    assert (run.models / record.id / "model.safetensors").read_bytes() == weights


def test_a_run_without_the_weights_can_t_be_trained_on(run, parts):
    record = float_record(run, "trial-003").model_copy(update={"id": "trial-004"})
    with pytest.raises(UsageError, match=r"trial-004 has no model\.safetensors to train on"):
        tune(run, record, parts, epochs=1)
