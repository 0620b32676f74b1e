"""Is any network of timm or torchvision a classifier like our own?"""

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from hkbench.errors import UsageError
from hkbench.models.classifier import Classifier
from hkbench.models.foreign import timm_entry, torchvision_entry
from hkbench.models.foreign.sizes import smallest
from hkbench.models.weights import Download, HubFile, load_weights

CLASSES = 5
NAMES = (
    "timm/resnet18",
    "timm/vit_tiny_patch16_224",
    "timm/ghostnet_100",
    "torchvision/resnet18",
    "torchvision/shufflenet_v2_x0_5",
    "torchvision/mobilenet_v3_small",
)


def entry(name: str, image_size: int = 64):
    return (timm_entry if name.startswith("timm/") else torchvision_entry)(name, image_size)


def network(name: str, image_size: int = 64, seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(name, CLASSES, entry(name, image_size).builder(CLASSES))


def sketch(name: str, image_size: int = 64) -> Classifier:
    with torch.device("meta"):
        return Classifier(name, CLASSES, entry(name, image_size).builder(CLASSES))


def check_stages(made: Classifier) -> None:
    """Every parameter is in one stage, no stage is without, and all modules can be found by name."""
    names = [name for stage in made.stages for name in stage]
    for key, _ in made.body.named_parameters():
        assert sum(key.startswith(f"{name}.") for name in names) == 1, key
    held = {made.stage_of(f"body.{key}") for key, _ in made.body.named_parameters()}
    assert held == set(range(len(made.stages)))
    for name in names:
        made.body.get_submodule(name)


@pytest.mark.parametrize("name", NAMES)
def test_network_learns_from_its_smallest_pictures(name: str):
    edge = entry(name).smallest_image_size
    made = network(name, edge)
    check_stages(made)
    logits = made(torch.rand(2, 3, edge, edge))
    assert logits.shape == (2, CLASSES)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_frozen_body_gives_features_that_can_be_kept(name: str):
    made = network(name).freeze(99)
    pictures = torch.rand(2, 3, 64, 64)
    assert not any(parameter.requires_grad for parameter in made.body.parameters())
    made.freeze(len(made.stages))
    kept = made.frozen_features(pictures)
    assert torch.equal(kept, made.frozen_features(pictures))
    torch.testing.assert_close(made.eval()(pictures), made.logits_from(kept))


@pytest.mark.parametrize("name", NAMES)
def test_last_stage_alone_can_learn(name: str):
    made = network(name)
    made.freeze(len(made.stages) - 1)
    made(torch.rand(2, 3, 64, 64)).square().sum().backward()
    learning = [key for key, parameter in made.body.named_parameters() if parameter.grad is not None]
    assert learning
    assert {made.stage_of(f"body.{key}") for key in learning} == {len(made.stages) - 1}


@pytest.mark.parametrize("name", NAMES)
def test_own_file_brings_body_and_head(name: str, tmp_path):
    path = tmp_path / "model.safetensors"
    first, second = network(name, seed=1).eval(), network(name, seed=2).eval()
    save_file({key: tensor.contiguous() for key, tensor in first.state_dict().items()}, path)
    load_weights(second, entry(name), str(path))
    pictures = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(first(pictures), second(pictures))


def original(name: str) -> torch.nn.Module:
    library, _, known = name.partition("/")
    torch.manual_seed(3)
    if library == "timm":
        return timm.create_model(known)
    return torchvision.models.get_model(known)


def their_features(theirs: torch.nn.Module, pictures: Tensor) -> Tensor:
    """Return what the last linear layer of a library's network is given, (batch, channels)."""
    seen: list[Tensor] = []
    last = [module for module in theirs.modules() if isinstance(module, torch.nn.Linear)][-1]
    last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    theirs.eval()(pictures)
    return seen[0]


@pytest.mark.parametrize("name", NAMES)
def test_file_of_the_library_makes_the_librarys_features(name: str, tmp_path):
    path = tmp_path / "theirs.pth"
    theirs, ours = original(name), network(name, 224).eval()
    torch.save(theirs.state_dict(), path)
    load_weights(ours, entry(name, 224), str(path))
    pictures = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        expected = their_features(theirs, ours.normalise(pictures))
        torch.testing.assert_close(ours.features(pictures)[:, :, 0, 0], expected, rtol=1e-4, atol=1e-5)


def test_file_of_the_library_fills_a_network_that_has_no_published_weights(tmp_path):
    name, path = "timm/mobilenetv2_075", tmp_path / "theirs.pth"
    assert entry(name).imagenet is None
    theirs, ours = original(name), network(name)
    torch.save(theirs.state_dict(), path)
    load_weights(ours, entry(name), str(path))
    assert torch.equal(ours.body.network.conv_stem.weight, theirs.conv_stem.weight)


@pytest.mark.parametrize("name", ["timm/test_vit", "torchvision/vit_b_32"])
def test_position_embeddings_are_fitted_to_the_pictures(name: str, tmp_path):
    path = tmp_path / "theirs.pth"
    torch.save(original(name).state_dict(), path)
    ours = network(name, 64)
    before = {key: tensor.clone() for key, tensor in ours.body.state_dict().items() if "pos_embed" in key}
    load_weights(ours, entry(name, 64), str(path))
    ((key, tensor),) = before.items()
    after = ours.body.state_dict()[key]
    assert after.shape == tensor.shape
    assert not torch.equal(after, tensor)


@pytest.mark.parametrize(
    ("image_size", "least"), [(32, 32), (33, 64), (64, 32), (70, 96), (96, 32), (230, 256)]
)
def test_least_size_is_above_a_size_that_does_not_fit(image_size: int, least: int):
    assert smallest("some", lambda size: size % 32 == 0, image_size, 224) == least


def test_network_that_takes_nothing_is_refused():
    with pytest.raises(UsageError, match=r"^some takes no pictures of 64 px and none of 512 or less\.$"):
        smallest("some", lambda _: False, 64, 224)


def test_image_size_that_a_network_cannot_take_is_told_with_one_that_it_can():
    assert entry("timm/vit_tiny_patch16_224", 64).smallest_image_size == 16
    assert entry("timm/inception_v3", 64).smallest_image_size == 75
    assert entry("torchvision/maxvit_t", 64).smallest_image_size == 224
    with pytest.raises(UsageError, match=r"at least 224 px, found image_size 64\.$"):
        entry("torchvision/maxvit_t", 64).builder(CLASSES)


@pytest.mark.parametrize("name", ["timm/swin_tiny_patch4_window7_224", "timm/vit_tiny_patch16_224"])
def test_networks_for_one_size_are_built_for_ours(name: str):
    made = sketch(name, 96)
    check_stages(made)
    assert made(torch.empty(2, 3, 96, 96, device="meta")).shape == (2, CLASSES)


@pytest.mark.parametrize(
    "name",
    [
        "timm/coat_tiny",  # parameters beside modules, groups inside of blocks
        "timm/caformer_s18",  # no groups of timm's
        "torchvision/vit_b_16",
        "torchvision/squeezenet1_1",  # its classifier is a convolution
        "torchvision/googlenet",  # with auxiliary heads
        "torchvision/regnet_y_400mf",  # reads numbers from tensors while it is made
    ],
)
def test_stages_of_odd_networks(name: str):
    made = sketch(name)
    check_stages(made)
    assert len(made.stages) >= 3
    assert made(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, CLASSES)


def test_inception_of_torchvision_expects_two_normalisations():
    made = network("torchvision/inception_v3", 96).eval()
    torch.manual_seed(0)
    theirs = torchvision.models.inception_v3(init_weights=True, transform_input=True).eval()
    state = {key: tensor for key, tensor in theirs.state_dict().items() if not key.startswith(("fc", "Aux"))}
    made.body.network.load_state_dict(state)
    pictures = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        expected = their_features(theirs, made.normalise(pictures))
        torch.testing.assert_close(made.features(pictures)[:, :, 0, 0], expected)


def cut(name: str, levels: int, image_size: int = 64) -> Classifier:
    builder = timm_entry(name, image_size).cut_builder
    assert builder is not None
    return Classifier(name, CLASSES, builder(levels, CLASSES))


@pytest.mark.parametrize(
    ("name", "levels", "channels", "stride"),
    [
        ("timm/resnet18", 2, 64, 4),
        ("timm/ghostnet_100", 3, 40, 8),
        ("timm/mobilenetv3_small_050", 3, 16, 8),
        ("timm/test_vit", 2, 64, 16),
    ],
)
def test_cut_gives_the_last_of_its_feature_levels(name: str, levels: int, channels: int, stride: int):
    made = cut(name, levels)
    check_stages(made)
    pictures = torch.rand(2, 3, 64, 64)
    assert made.features(pictures).shape == (2, channels, 64 // stride, 64 // stride)
    assert made(pictures).shape == (2, CLASSES)
    whole = network(name)
    assert sum(p.numel() for p in made.body.parameters()) < sum(p.numel() for p in whole.body.parameters())


@pytest.mark.parametrize("name", ["timm/resnet18", "timm/mobilenetv3_small_050", "timm/test_vit"])
def test_cut_takes_the_weights_of_the_whole(name: str, tmp_path):
    path = tmp_path / "theirs.pth"
    theirs = original(name)
    torch.save(theirs.state_dict(), path)
    made = cut(name, 2, timm_entry(name, 64).usual_image_size)
    load_weights(made, timm_entry(name, timm_entry(name, 64).usual_image_size), str(path))
    state = theirs.state_dict()
    for key, tensor in made.body.state_dict().items():
        plain = key.removeprefix("network.model.").replace("parametrizations.", "").replace(".original", "")
        assert torch.equal(tensor, state[plain])


def test_cuts_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match=r"^timm/resnet18 has 5 feature levels, so it can't be cut to 6\.$"):
        cut("timm/resnet18", 6)
    with pytest.raises(UsageError, match=r"^timm/hardcorenas_a can't be cut"):
        cut("timm/hardcorenas_a", 2)


def test_unknown_names_are_answered_with_the_nearest_few():
    with pytest.raises(UsageError, match=r"timm has no classifier 'resnet81'.*timm/resnet18") as raised:
        timm_entry("timm/resnet81", 64)
    assert len(str(raised.value)) < 250
    with pytest.raises(UsageError, match=r"torchvision has no classifier 'resnet81'.*torchvision/resnet18"):
        torchvision_entry("torchvision/resnet81", 64)
    with pytest.raises(UsageError, match=r"timm/resnet18 has no weights 'a9_in1k', but: .*a1_in1k"):
        timm_entry("timm/resnet18.a9_in1k", 64)


def test_entries_know_their_weights():
    tagged = timm_entry("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", 64)
    assert tagged.imagenet.file == "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"
    assert tagged.imagenet.origin == HubFile(repository="timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    assert (tagged.imagenet.licence, tagged.usual_image_size) == ("apache-2.0", 224)
    assert tagged.builder(CLASSES).mean == (0.5, 0.5, 0.5)
    assert timm_entry("timm/test_vit.r160_in1k", 64).usual_image_size == 160
    resnet = torchvision_entry("torchvision/resnet18", 64).imagenet
    assert resnet.origin == Download(url="https://download.pytorch.org/models/resnet18-f37072fd.pth")
    assert (resnet.licence, resnet.checksum) == ("BSD-3-Clause", "f37072fd")
    assert "SWAG" in torchvision_entry("torchvision/vit_h_14", 518).imagenet.licence
