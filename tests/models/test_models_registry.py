import pytest
import torch

from hkbench.errors import UsageError
from hkbench.models.build import build
from hkbench.models.classifier import parameter_count
from hkbench.models.registry import MODELS


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"no model 'squeezenet1_2'\. Did you mean 'squeezenet1_1'"):
        build("squeezenet1_2", classes=69)


def test_unknown_weights_are_refused():
    with pytest.raises(UsageError, match="Did you mean 'imagenet'"):
        build("efficientnet_lite0", classes=69, weights="imagnet")


@pytest.mark.parametrize("classes", [1, 0, -3])
def test_fewer_than_two_classes_are_refused(classes: int):
    with pytest.raises(UsageError, match=f"at least 2 classes, found {classes}"):
        build("household_s", classes=classes)


@pytest.mark.parametrize("name", ["baseline_cnn", "household_s", "household_m"])
def test_networks_of_our_own_have_no_imagenet_weights(name: str):
    assert not MODELS[name].has_imagenet_weights
    with pytest.raises(UsageError, match=r"ever published.*efficientnet_lite0"):
        build(name, classes=69, weights="imagenet")


def test_absent_weights_name_the_file_to_bring(tmp_path, monkeypatch):
    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path))
    assert not MODELS["squeezenet1_1"].has_imagenet_weights
    with pytest.raises(UsageError, match=r"weights.squeezenet1_1-b8a52dc0\.pth"):
        build("squeezenet1_1", classes=69, weights="imagenet")


@pytest.mark.parametrize(
    ("name", "most_bytes"),
    [("household_s", 250_000), ("household_m", 1_000_000), ("baseline_cnn", 1_500_000)],
)
def test_sizes_that_the_notes_promise(name: str, most_bytes: int):
    assert 4 * parameter_count(build(name, classes=69)) < most_bytes


def test_cut_networks_grow_with_their_stages():
    counts = [parameter_count(build(f"efficientnet_lite0_cut{stages}", classes=69)) for stages in (2, 3, 4)]
    assert counts == [28_021, 83_989, 292_709]


def test_networks_are_channels_last():
    stem = build("household_s", classes=69).body[0].conv.weight
    assert stem.is_contiguous(memory_format=torch.channels_last)
