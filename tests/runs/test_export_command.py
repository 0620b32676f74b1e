"""`hkbench export`, as typed: from a run to a folder or a .zip, and what it refuses."""

import json
import shutil
import sys
import zipfile

import onnx
import pytest
from search_fakes import draw_pictures

from hkbench.analysis.predictions import read_predictions
from hkbench.cli.app import main
from hkbench.export.session import OnnxClassifier
from hkbench.report.page import build_report
from hkbench.shipping import gate, narrow
from hkbench.shipping.card import model_card
from hkbench.store.digest import sha256_of
from hkbench.store.records import BenchmarkRecord
from hkbench.store.rundir import RunDirectory
from hkbench.study.storage import STORAGE_FILE, RunStorage


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a cache and a finished run of one trained network."""
    folder = tmp_path_factory.mktemp("export")
    shop = draw_pictures(folder / "shop", each=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HKBENCH_CACHE", str(folder / "cache"))
        flags = ["train", "--model", "household_s", "--data", shop, "--image-size", 32, "--epochs", 8]
        flags += ["--optimizer", "muon", "--set", "batch_size=16", "--out", folder / "run"]
        code = typed(patch, *flags)
    assert code == 0
    return folder


@pytest.fixture
def run(place, tmp_path, monkeypatch):
    """Return a copy of the run that a test may change."""
    monkeypatch.setenv("HKBENCH_CACHE", str(place / "cache"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "run", tmp_path / "run")
    monkeypatch.setattr(gate, "MOST_LOST_BY_CHANCE", 1.0)  # 24 pictures of validation can't show much
    return RunDirectory.open(tmp_path / "run")


def typed(monkeypatch, *arguments):
    """Run the command line in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["hkbench", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


def record_of(run, id_):
    return next(each for each in run.model_records() if each.id == id_)


def test_a_float_file_is_what_its_record_says(run):
    record = record_of(run, "trial-000")
    path = run.models / record.id / "model.onnx"
    found = record.verified
    assert (found.sha256, found.size_bytes) == (record.sha256, record.size_bytes)
    assert (sha256_of(path), path.stat().st_size) == (record.sha256, record.size_bytes)
    assert found.batches == [1, 32]
    assert found.max_logit_difference < 1e-3
    assert found.accuracy == record.accuracy("validation")
    assert found.latency_ms == next(row.p50_ms for row in run.read(BenchmarkRecord))
    told = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    assert json.loads(told["metrics"])["validation"]["accuracy"] == pytest.approx(found.accuracy, abs=1e-5)
    assert json.loads(told["training"])["epochs"] == 8
    assert json.loads(told["licences"])["code"] == "Apache-2.0"
    assert told["source_sha256"] == sha256_of(run.models / record.id / "model.safetensors")
    assert told["split"] == run.read_run().data.split.hash


def test_a_pick_in_several_precisions_is_one_zip(run, monkeypatch, capfd):
    flags = ("--pick", "smallest-at", "0.4", "--precision", "int8,fp32,w8", "--out", "goods.zip")
    assert typed(monkeypatch, "export", run.path, *flags, "--json") == 0, capfd.readouterr().err
    said = json.loads(capfd.readouterr().out)
    with zipfile.ZipFile("goods.zip") as archive:
        names = set(archive.namelist())
        archive.extractall("unpacked")
    assert names == set(said["files"])
    assert {"model.int8.onnx", "model.fp32.onnx", "model.w8.onnx", "labels.txt", "README.md"} <= names
    assert {"bundle.json", "config.json", "model.safetensors"} <= names
    told = json.loads((run.path.parent / "unpacked" / "bundle.json").read_text())
    assert (told["serve"], told["picked"]) == ("model.int8.onnx", "smallest-at 0.4")

    int8, whole, stored = (record_of(run, id_) for id_ in ("trial-000-int8", "trial-000", "trial-000-w8"))
    assert int8.size_bytes < 0.5 * whole.size_bytes
    assert int8.lost.estimate <= narrow.MOST_LOST
    assert int8.source == stored.source == "trial-000"
    assert int8.source_sha256 == whole.sha256
    assert int8.quantization.pictures == 84
    assert len(int8.quantization.tried) >= 6
    assert stored.unpacked_bytes > 3 * stored.size_bytes / 2
    assert int8.part("test") is None  # the test part is not read but by --test
    for record in (int8, whole, stored):
        file = run.path.parent / "unpacked" / f"model.{record.precision}.onnx"
        assert sha256_of(file) == record.sha256
        answers = next(
            block
            for block in read_predictions(run.predictions)
            if (block.model_id, block.part) == (record.id, "validation")
        )
        assert (answers.logits.argmax(axis=1) == answers.labels).mean() == record.accuracy("validation")
        assert OnnxClassifier(file).labels == ("mug", "rug", "vase")
    assert "int8" in build_report(run).read_text()


def test_a_second_export_takes_the_files_that_are_there(run, monkeypatch, capfd):
    flags = ("export", run.path, "--trial", 0, "--precision", "fp16", "--out", "one")
    assert typed(monkeypatch, *flags) == 0, capfd.readouterr().err
    first = record_of(run, "trial-000-fp16")
    assert typed(monkeypatch, *flags, "--test") == 0, capfd.readouterr().err
    second = record_of(run, "trial-000-fp16")
    assert second.verified.verified == first.verified.verified
    assert second.part("test").pictures == len({*range(second.part("test").pictures)})
    assert (run.path.parent / "one" / "model.fp16.onnx").is_file()


def test_a_trial_that_was_not_exported_is_from_its_checkpoint(run, monkeypatch, capfd):
    before = record_of(run, "trial-000")
    shutil.rmtree(run.models)
    assert typed(monkeypatch, "export", run.path, "--trial", 0) == 0, capfd.readouterr().err
    after = record_of(run, "trial-000")
    assert after.sha256 == before.sha256
    assert (run.path / "export" / "trial-000" / "model.fp32.onnx").is_file()


def test_a_checkpoint_that_lies_elsewhere_is_fetched(run, monkeypatch, capfd):
    before = record_of(run, "trial-000")
    shutil.rmtree(run.models)
    shared = run.path.parent / "shared"
    elsewhere = RunStorage(checkpoints=str(shared), name="shop-1")
    (run.path / STORAGE_FILE).write_text(elsewhere.model_dump_json())
    assert typed(monkeypatch, "export", run.path, "--trial", 0) == 2
    (said,) = (line for line in capfd.readouterr().err.splitlines() if line.startswith("error: "))
    assert f"no checkpoint {shared}/shop-1/00000.pt" in said
    shutil.move(run.path / "checkpoints", shared / "shop-1")
    assert typed(monkeypatch, "export", run.path, "--trial", 0) == 0, capfd.readouterr().err
    assert record_of(run, "trial-000").sha256 == before.sha256


def test_a_dry_run_says_what_would_be_done(run, monkeypatch, capfd):
    before = sorted(run.path.rglob("*"))
    assert typed(monkeypatch, "export", run.path, "--pick", "best-under", "1MB", "--dry-run") == 0
    assert json.loads(capfd.readouterr().out)["in_this_order"] == ["trial-000"]
    assert sorted(run.path.rglob("*")) == before


def test_the_card_of_a_bundle_has_the_figures_of_its_record(run):
    record = record_of(run, "trial-000")
    card = model_card([record], run.read_run(), picked="fp32", files={"fp32": "model.fp32.onnx"})
    assert f"{record.size_bytes:,}" in card or f"{record.size_bytes / 1000:,.1f}" in card
    assert "shop" in card


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--trial", 7], "nothing to export of trial 7"),
        (["--pick", "smallest-at", "1.5"], "a share such as 0.80"),
        (["--pick", "smalest-at", "0.5"], "Did you mean 'smallest-at'"),
        (["--pick", "best-under", "many"], "such as 500kB"),
        (["--pick", "best-within", "0"], "milliseconds"),
        (["--pick", "best-within", "0.0001ms"], "The nearest: trial-000"),
        (["--pick", "best-under", "1kB"], "The nearest: trial-000"),
        (["--trial", 0, "--precision", "int4"], "Did you mean 'int8'"),
        (["--trial", 0, "--precision", "fp32,fp32"], "each precision once"),
        ([], "Name what to export"),
        (["--trial", 0, "--pick", "smallest-at", "0.5"], "not both"),
        (["--trial", 0, "--out", "taken"], "no bundle of hkbench's"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(run, monkeypatch, capfd, flags, message):
    taken = run.path.parent / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("keep")
    assert typed(monkeypatch, "export", run.path, *flags) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in errors[0]
    assert len(errors) == 1
    assert (taken / "mine.txt").read_text() == "keep"


def test_a_run_without_models_is_refused(run, monkeypatch, capfd):
    shutil.rmtree(run.models)
    assert typed(monkeypatch, "export", run.path, "--pick", "smallest-at", "0.5") == 2
    assert "has no models to export" in capfd.readouterr().err


def test_other_pictures_than_the_run_s_are_refused(run, place, monkeypatch, capfd):
    config = run.read_run().config | {"data": str(draw_pictures(run.path.parent / "other", each=30))}
    run.write_run(run.read_run().model_copy(update={"config": config}))
    assert typed(monkeypatch, "export", run.path, "--trial", 0, "--precision", "int8") == 2
    assert "other pictures" in capfd.readouterr().err


def test_a_full_disk_leaves_no_bundle(run, monkeypatch, capfd):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    assert typed(monkeypatch, "export", run.path, "--trial", 0, "--out", "goods") == 2
    assert "No room on the disk" in capfd.readouterr().err
    assert not list(run.path.parent.glob("*goods*"))


def test_a_collapse_is_refused_with_the_layers_to_blame(run, monkeypatch, capfd):
    monkeypatch.setattr(narrow, "keeps", lambda lost: False)
    monkeypatch.setattr("hkbench.shipping.int8.passes", lambda lost: False)
    flags = ("--trial", 0, "--precision", "int8", "--no-tune")
    assert typed(monkeypatch, "export", run.path, *flags) == 1
    errors = capfd.readouterr().err
    assert "loses too much accuracy in int8" in errors
    assert "alone changes" in errors
    assert not (run.models / "trial-000-int8").exists()


def test_too_few_pictures_to_show_what_is_kept_are_named(run, monkeypatch, capfd):
    monkeypatch.setattr(gate, "MOST_LOST_BY_CHANCE", 0.015)
    assert typed(monkeypatch, "export", run.path, "--trial", 0, "--precision", "int8") == 1
    assert "24 pictures of the validation part" in capfd.readouterr().err
