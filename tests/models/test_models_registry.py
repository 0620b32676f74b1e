import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import squeezenet1_1

from hkbench.errors import UsageError
from hkbench.models.registry import MODELS, build, parameter_count
from hkbench.models.weights import MOBILENETV4_CONV_SMALL_050, SQUEEZENET1_1


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


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    return tmp_path


def test_absent_weights_name_the_file_to_bring(cache):
    assert not MODELS["squeezenet1_1"].has_imagenet_weights
    with pytest.raises(UsageError, match=r"put it at .*squeezenet1_1-b8a52dc0\.pth"):
        build("squeezenet1_1", classes=69, weights="imagenet")


def test_brought_torchvision_weights_are_used(cache):
    published = squeezenet1_1(weights=None)
    torch.save(published.state_dict(), cache / "weights" / SQUEEZENET1_1.file)
    network = build("squeezenet1_1", classes=69, weights="imagenet").eval()
    assert MODELS["squeezenet1_1"].has_imagenet_weights
    pictures = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = published.eval().features(network.normalise(pictures))
        torch.testing.assert_close(network.features(pictures), expected, rtol=1e-3, atol=1e-4)


def test_brought_timm_weights_are_used(cache):
    other = build("mobilenetv4_conv_small_050", classes=69, seed=3)
    state = {key: tensor.contiguous() for key, tensor in other.body.state_dict().items()}
    save_file(state, cache / "weights" / MOBILENETV4_CONV_SMALL_050.file)
    network = build("mobilenetv4_conv_small_050", classes=69, seed=4, weights="imagenet")
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.body.state_dict().items())


def test_weights_of_another_network_are_refused(cache):
    torch.save(nn.Linear(2, 2).state_dict(), cache / "weights" / SQUEEZENET1_1.file)
    with pytest.raises(UsageError, match="doesn't hold the weights of this network"):
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


def test_frozen_body_gets_new_fully_connected_layers():
    network = build("efficientnet_lite0_cut3", classes=69, frozen_body=True)
    widths = [layer.out_features for layer in network.head.modules() if isinstance(layer, nn.Linear)]
    assert widths == [256, 69]


def test_networks_are_channels_last():
    stem = build("household_s", classes=69).body[0].conv.weight
    assert stem.is_contiguous(memory_format=torch.channels_last)
