"""Narrower files of a run's float32 model: recorded, trained on where that helps, else refused."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from small_run import (
    LAYER,
    export_once,
    finalist,
    float_record,
    run_in,
    with_outlier,
    without_waiting,
)
from training_fakes import CLASSES

from hkbench.errors import UsageError
from hkbench.export.onnx import RejectedError
from hkbench.export.quantize.recipe import Layout, Recipe
from hkbench.export.quantize.stored import unpacked_bytes
from hkbench.export.session import OnnxClassifier
from hkbench.models.counts import check_precision
from hkbench.shipping import int8, narrow
from hkbench.shipping.float32 import ship_float
from hkbench.shipping.gate import CollapsedError
from hkbench.shipping.narrow import narrow_id, ship_narrow
from hkbench.shipping.parts import Parts
from hkbench.store.digest import sha256_of
from hkbench.store.rundir import RunDirectory

GOOD, BAD = "trial-003", "trial-004"
RECIPES = [Recipe(), Recipe(per_channel=False)]
"""Enough of them to choose from; test_int8_choice.py has all."""
LOSSY = RECIPES[1:]
"""One scale for a whole layer: too coarse for the network with an outlier."""


@pytest.fixture(scope="module")
def shipped(parts, network, tmp_path_factory) -> RunDirectory:
    """Return a run with a network that takes to int8 and one that doesn't. Tests add to it."""
    run = run_in(tmp_path_factory.mktemp("run") / "small", parts)
    with pytest.MonkeyPatch.context() as patch:
        export_once(patch)
        ship_float(finalist(network, id=GOOD, twin_of=7), parts, run)
        ship_float(finalist(with_outlier(network), id=BAD), parts, run)
    return run


@pytest.fixture
def run(shipped):
    """Return the run, without what a test has added when that is over."""
    yield shipped
    for folder in shipped.models.iterdir():
        if folder.name not in (GOOD, BAD):
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()


@pytest.fixture(autouse=True)
def _few_recipes(monkeypatch):
    without_waiting(monkeypatch)
    export_once(monkeypatch)
    monkeypatch.setattr(int8, "LAYOUTS", (Layout(),))
    monkeypatch.setattr(int8, "recipes_of", lambda _: RECIPES)


@pytest.fixture
def _lossy(_few_recipes, monkeypatch):
    monkeypatch.setattr(int8, "recipes_of", lambda _: LOSSY)


def ship(run, parts, precision, source=GOOD, **how):
    return ship_narrow(float_record(run, source), precision, parts, run, **how)


def never():
    raise AssertionError("nothing was to be trained")


@pytest.mark.parametrize("precision", ["fp16", "int8", "w8"])
def test_the_record_is_of_the_file(run, parts, precision):
    source = float_record(run, GOOD)
    record = ship(run, parts, precision, tune=never).record
    folder = run.models / f"{GOOD}-{precision}"
    assert record in run.model_records()
    assert sorted(file.name for file in folder.iterdir()) == ["labels.txt", "model.json", "model.onnx"]
    path = folder / record.files["onnx"]
    assert (record.id, record.precision, record.source) == (folder.name, precision, GOOD)
    assert record.twin_of is None
    assert (record.sha256, record.size_bytes) == (sha256_of(path), path.stat().st_size)
    assert record.size_bytes < 0.55 * source.size_bytes
    assert record.verified is not None
    assert (record.verified.sha256, record.verified.size_bytes) == (record.sha256, record.size_bytes)
    assert record.verified.max_logit_difference is None
    logits = OnnxClassifier(path).logits(parts.pictures("validation"), batch=32)
    accuracy = (logits.argmax(axis=1) == parts.labels("validation")).mean()
    assert record.verified.accuracy == record.accuracy("validation") == pytest.approx(accuracy)
    assert record.lost is not None
    assert record.lost.estimate == pytest.approx(source.accuracy("validation") - accuracy)
    assert set(record.files.values()) == {"labels.txt", "model.onnx"}
    same = ("role", "trial", "model", "architecture", "parameters", "epochs", "training", "licences")
    assert all(getattr(record, name) == getattr(source, name) for name in same)
    assert (folder / "labels.txt").read_text().split() == list(CLASSES)


@pytest.mark.parametrize("precision", ["fp16", "int8", "w8"])
def test_the_file_tells_what_it_was_made_from(run, parts, precision):
    source = float_record(run, GOOD)
    record = ship(run, parts, precision).record
    model = onnx.load(run.models / record.id / "model.onnx")
    metadata = {each.key: each.value for each in model.metadata_props}
    assert metadata["precision"] == precision
    assert metadata["source_sha256"] == source.sha256
    assert metadata["split"] == parts.split.hash
    assert metadata["model"] == source.model


def test_what_weights_take_once_open_is_told_of_stored_ones_alone(run, parts):
    found = unpacked_bytes(onnx.load(run.models / GOOD / "model.onnx"))
    assert ship(run, parts, "w8").record.unpacked_bytes == found
    assert ship(run, parts, "fp16").record.unpacked_bytes is None


def test_how_int8_was_made_is_told(run, parts):
    record = ship(run, parts, "int8").record
    how = record.quantization
    assert how is not None
    assert how.pictures == len(parts.rows("train"))
    assert how.tuned_epochs == 0
    assert how.float_latency_ms > 0
    taken = next(each for each in how.tried if each.recipe == how.label)
    assert how.recipe.keys() == Recipe().described().keys()
    assert taken.lost.estimate == pytest.approx(record.lost.estimate)
    assert ship(run, parts, "w8").record.quantization is None


def test_the_test_part_is_read_only_where_that_is_asked(run, parts):
    assert [part.part for part in ship(run, parts, "w8").record.parts] == ["validation"]
    shipped = ship(run, parts, "w8", read=("validation", "test"))
    assert [part.part for part in shipped.record.parts] == ["validation", "test"]
    assert [block.part for block in shipped.blocks] == ["validation", "test"]
    assert {block.model_id for block in shipped.blocks} == {f"{GOOD}-w8"}


def test_an_outlier_is_kept_by_a_scale_for_each_channel(run, parts):
    record = ship(run, parts, "int8", BAD, tune=never).record
    assert record.quantization is not None
    assert record.quantization.recipe["per_channel"]


@pytest.mark.usefixtures("_lossy")
def test_a_network_that_collapses_is_refused_with_the_layer_to_blame(run, parts):
    wanted = (
        rf"{BAD} loses too much accuracy in int8: \d\d\.\d\d points .* at best, by U8S8, per tensor, minmax, "
        rf"where 0\.5 is allowed\. To blame: {LAYER} alone changes \d\d\.\d% of the answers"
    )
    with pytest.raises(CollapsedError, match=wanted):
        ship(run, parts, "int8", BAD)
    assert not (run.models / f"{BAD}-int8" / "model.onnx").exists()
    assert f"{BAD}-int8" not in [record.id for record in run.model_records()]


@pytest.mark.usefixtures("_lossy")
def test_training_on_is_tried_where_no_recipe_passes_and_its_network_is_shipped(run, parts, network):
    told, calls = [], []

    def tune():
        calls.append(len(told))
        return network, 3

    record = ship(run, parts, "int8", BAD, tune=tune, advance=lambda *done: told.append(done)).record
    assert calls == [1]  # once, after the first recipe
    how = record.quantization
    assert how is not None
    assert how.tuned_epochs == 3
    label = LOSSY[0].label
    assert [each.recipe for each in how.tried] == [label, f"{label}, trained on"]
    assert how.tried[0].lost.estimate > 0.3
    assert record.lost.estimate <= 0.005
    assert record.source == BAD
    pictures = parts.pictures("validation")
    found = OnnxClassifier(run.models / record.id / "model.onnx").logits(pictures)
    good = OnnxClassifier(run.models / GOOD / "model.onnx").logits(pictures)
    assert (found.argmax(axis=1) == good.argmax(axis=1)).mean() > 0.99


@pytest.mark.usefixtures("_lossy")
def test_training_on_that_didn_t_help_is_told(run, parts, network):
    with pytest.raises(CollapsedError, match=r"training on for 2 epochs .* didn't help"):
        ship(run, parts, "int8", BAD, tune=lambda: (with_outlier(network), 2))
    assert not (run.models / f"{BAD}-int8" / "model.onnx").exists()


def test_too_few_pictures_to_tell_are_told(run, parts):
    """int8 loses nothing on them, but might on others; training on wouldn't change that."""
    few = Parts(store=parts.store, split=replace(parts.split, validation=parts.rows("validation")[:100]))
    wanted = r"can't be shown to keep its accuracy: 100 pictures .* loses 0\.00 points .* Bring more pictures"
    with pytest.raises(CollapsedError, match=wanted):
        ship(run, few, "int8", tune=never)
    assert not (run.models / f"{GOOD}-int8" / "model.onnx").exists()
    for precision in ("fp16", "w8"):
        record = ship(run, few, precision).record
        assert record.verified is not None
        assert record.verified.pictures == 100


@pytest.mark.parametrize("precision", ["fp16", "w8"])
def test_other_precisions_must_keep_the_accuracy_too(run, parts, precision, monkeypatch):
    def spoilt(model):
        """Return a model that answers class 0 to everything."""
        changed = onnx.ModelProto.FromString(model.SerializeToString())
        bias = next(tensor for tensor in changed.graph.initializer if tensor.name == "head.4.bias")
        values = onnx.numpy_helper.to_array(bias) + np.array([1e3, 0, 0], np.float32)
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
        return changed

    monkeypatch.setitem(narrow.CONVERSIONS, precision, spoilt)
    with pytest.raises(RejectedError, match=rf"{GOOD} loses \d\d\.\d\d points .* of accuracy in {precision}"):
        ship(run, parts, precision)
    assert [file.name for file in (run.models / f"{GOOD}-{precision}").iterdir()] == ["model.onnx.rejected"]


def test_a_float32_file_that_is_missing_or_changed_is_refused(run, parts):
    path = run.models / GOOD / "model.onnx"
    content = path.read_bytes()
    try:
        path.write_bytes(content + b"\x00")
        with pytest.raises(UsageError, match=rf"or isn't the file of {GOOD}: export the model again"):
            ship(run, parts, "w8")
        path.unlink()
        with pytest.raises(UsageError, match="isn't there"):
            ship(run, parts, "w8")
    finally:
        path.write_bytes(content)
    assert not (run.models / f"{GOOD}-w8").exists()


def test_an_unknown_precision_is_refused(run, parts):
    with pytest.raises(UsageError, match=r"no precision 'int9'\. Did you mean 'int8'\?"):
        ship(run, parts, "int9")
    for name in ("fp32", "fp16", "int8", "w8"):
        check_precision(name)


def test_names_of_narrower_files():
    assert narrow_id("trial-003", "fp32") == "trial-003"
    assert narrow_id("trial-003", "w8") == "trial-003-w8"
