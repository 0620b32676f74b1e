"""`hkbench train`, as typed: a run directory that report and benchmark take, and what it refuses."""

import json
import sys

import pytest
from search_fakes import draw_pictures

from hkbench.cli.app import main
from hkbench.store.rundir import RunDirectory


def hkbench(monkeypatch, *arguments):
    """Run the command line in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["hkbench", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return draw_pictures(tmp_path / "shop", each=20)


@pytest.mark.slow
def test_a_training_leaves_a_run_that_report_and_benchmark_take(shop, tmp_path, monkeypatch, capfd):
    common = ("--data", shop, "--image-size", 32, "--set", "batch_size=16")
    out = tmp_path / "run"
    code = hkbench(monkeypatch, "train", "--model", "household_s", *common, "--epochs", 3, "--out", out)
    assert code == 0, capfd.readouterr().err
    run = RunDirectory.open(out)
    assert run.read_run().kind == "train"
    assert [row.epoch for row in run.epochs()] == [1, 2, 3]
    (model,) = run.model_records()
    assert (model.role, model.model, model.epochs) == ("no-teacher", "household_s", 3)
    assert {part.part for part in model.parts} == {"validation", "test"}
    assert "accuracy" in model.parts[0].intervals
    assert (out / "report.html").is_file()
    assert hkbench(monkeypatch, "benchmark", out, "--seconds", "0.2") == 0

    taught = tmp_path / "taught"
    flags = ("--teacher", out / "models" / model.id, "--epochs", 2, "--out", taught)
    assert hkbench(monkeypatch, "train", "--model", "baseline_cnn", *common, *flags) == 0
    student = next(each for each in RunDirectory.open(taught).model_records() if each.role == "student")
    assert student.model == "baseline_cnn"
    trial = RunDirectory.open(taught).trials()[0]
    assert (trial.loss, trial.temperature, trial.weight_hard) == ("kd", 2.0, 0.3)


@pytest.mark.slow
def test_a_budget_becomes_epochs_that_a_resumed_training_keeps(shop, tmp_path, monkeypatch, capfd):
    out = tmp_path / "run"
    flags = ("train", "--model", "household_s", "--data", shop, "--image-size", 32, "--set", "batch_size=16")
    assert hkbench(monkeypatch, *flags, "--budget", "2s", "--out", out) == 0, capfd.readouterr().err
    run = RunDirectory.open(out)
    epochs = run.read_run().config["space"]["schedule"]["max_epochs"]
    assert epochs >= 1
    assert len(run.epochs()) == epochs
    assert hkbench(monkeypatch, *flags, "--budget", "2s", "--out", out, "--resume") == 0
    assert len(run.epochs()) == epochs


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "inception_v3", "--image-size", 64], "at least 75 px"),
        (["--model", "squeezenet1_2"], "Did you mean 'squeezenet1_1'"),
        (["--model", "household_s", "--unfreeze", "blocks.9"], "no layer to unfreeze from"),
        (["--model", "household_s", "--set", "momentum=1.5"], "momentum in [0, 1)"),
        (["--model", "household_s", "--set", "lerning_rate=1"], "Did you mean 'learning_rate'"),
        (["--model", "household_s", "--optimizer", "adamv"], "Did you mean 'adam"),
        (["--model", "household_s", "--loss", "hard", "--teacher", "densenet121"], "reads no teacher"),
        (["--model", "household_s", "--loss", "kdd"], "no loss 'kdd'"),
        (["--model", "household_s", "--teacher", "densenet12"], "no model 'densenet12'"),
        (["--model", "household_s", "--budget", "ten"], "such as 10m"),
        (["--model", "household_s", "--device", "tpu"], "tpu"),
        (["--model", "household_s", "--set", "alpha=[1"], "no YAML"),
        (["--model", "household_s", "--set", "loss=[1]"], "loss"),
        (["--model", "household_s", "--set", "model=densenet121"], "named by --model"),
        (["--model", "household_s", "--weights", "hf-hub:a--b/c"], "'a--b/c'"),
        (["--model", "torchvision/resnet18", "--set", "cut=2"], "cut"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(monkeypatch, capfd, tmp_path, flags, message):
    monkeypatch.chdir(tmp_path)
    assert hkbench(monkeypatch, "train", *flags) == 2
    errors = capfd.readouterr().err.strip()
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_weights_of_another_network_name_the_tensors(monkeypatch, capfd, shop, tmp_path):
    from safetensors.torch import save_file

    from hkbench.models.build import build

    wrong = build("household_s", classes=3, seed=0)
    path = tmp_path / "wrong.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in wrong.state_dict().items()}, path)
    flags = ("--model", "household_m", "--weights", path, "--data", shop, "--image-size", 32, "--epochs", 1)
    assert hkbench(monkeypatch, "train", *flags) == 2
    errors = capfd.readouterr().err
    assert "body." in errors or "0.conv.weight" in errors
    assert not list(tmp_path.glob("results/*/models"))


def test_what_would_be_done_is_printed(monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert (
        hkbench(monkeypatch, "train", "--model", "timm/resnet18", "--dry-run", "--set", "layer_decay=0.8")
        == 0
    )
    said = json.loads(capfd.readouterr().out)
    assert said["space"]["defaults"]["layer_decay"] == 0.8
    assert said["out"].endswith("results/timm-resnet18")
