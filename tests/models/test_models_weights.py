"""Do weights fill the network that they were published for, wherever they lie, and are wrong ones refused?"""

import hashlib
import re
import socket
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn.functional import interpolate

from hkbench.errors import UsageError
from hkbench.models.architecture import Architecture
from hkbench.models.build import build
from hkbench.models.classifier import IMAGENET_MEAN, IMAGENET_STD, Classifier, Normalise
from hkbench.models.densenet import densenet121
from hkbench.models.lite0 import MEAN, STD, efficientnet_lite0
from hkbench.models.registry import MODELS
from hkbench.models.squeezenet import squeezenet1_1
from hkbench.models.weights import (
    DENSENET121,
    EFFICIENTNET_LITE0,
    INCEPTION_V3,
    MOBILENETV1_100,
    SQUEEZENET1_1,
    Download,
    PublishedWeights,
    densenet_key,
    lite0_key,
    load_weights,
    read,
)

PALACES = {442, 663, 698}  # ImageNet's bell cote, monastery, palace
DAISY = 985
HUB_REPOSITORY = "someone/squeezenet"


def packaged() -> dict[str, Tensor]:
    return read(EFFICIENTNET_LITE0.fetch())


def photos() -> Tensor:
    """Return crops of a Chinese palace (0, 1) and a flower (2, 3): float32 (4, 3, 224, 224) in [0, 1]."""
    crops = []
    for photo in load_sample_images().images:
        pixels = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255
        for left in (70, 140):
            square = pixels[..., left : left + 427]
            crops.append(interpolate(square, (224, 224), mode="bicubic", antialias=True).clamp(0, 1))
    return torch.cat(crops)


def shift_of_statistics(body: nn.Module, normalised: Tensor) -> float:
    """Return how far the activations' means lie from batch-norm's running means, in running deviations."""
    shifts = []

    def measure(layer, inputs):
        mean = inputs[0].mean(dim=(0, 2, 3))
        shifts.append(((mean - layer.running_mean) / layer.running_var.add(layer.eps).sqrt()).square().mean())

    hooks = [
        layer.register_forward_pre_hook(measure)
        for layer in body.modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    with torch.inference_mode():
        body(normalised)
    for hook in hooks:
        hook.remove()
    return float(torch.stack(shifts).median())


def test_every_tensor_but_the_classifier_finds_its_place():
    body = build("efficientnet_lite0", classes=69).body.state_dict()
    renamed = {lite0_key(key): tensor.shape for key, tensor in packaged().items()}
    assert {key for key in packaged() if lite0_key(key) is None} == {"_fc.weight", "_fc.bias"}
    del renamed[None]
    assert renamed == {key: tensor.shape for key, tensor in body.items()}


def test_cuts_hold_the_first_weights_of_the_whole():
    whole = build("efficientnet_lite0", classes=69, weights="imagenet").body.state_dict()
    cut = build("efficientnet_lite0_cut4", classes=69, weights="imagenet").body.state_dict()
    assert all(torch.equal(tensor, whole[key]) for key, tensor in cut.items())


def test_imagenet_classifier_on_our_features_knows_the_photos():
    network = build("efficientnet_lite0", classes=69, weights="imagenet").eval()
    tensors = packaged()
    with torch.inference_mode():
        features = network.features(photos()).mean(dim=(2, 3))
        logits = features @ tensors["_fc.weight"].T + tensors["_fc.bias"]
        best = logits.view(2, 2, 1000).softmax(dim=-1).mean(dim=1).argmax(dim=-1).tolist()
    assert best[0] in PALACES
    assert best[1] == DAISY


def test_batch_norm_statistics_agree_with_our_normalisation_and_padding():
    body = build("efficientnet_lite0", classes=69, weights="imagenet").eval().body
    pictures = photos()
    ours = shift_of_statistics(body, Normalise(MEAN, STD)(pictures))
    assert ours < shift_of_statistics(body, Normalise(IMAGENET_MEAN, IMAGENET_STD)(pictures)) / 2
    symmetric = timm.create_model("efficientnet_lite0", pretrained=False, bn_eps=1e-3).eval()
    symmetric.load_state_dict(body.state_dict(), strict=False)
    assert ours < shift_of_statistics(symmetric, Normalise(MEAN, STD)(pictures))


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch) -> dict[str, Path]:
    """Put every cache into a folder of the test, and forbid the network."""
    monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HKBENCH_OFFLINE", "1")
    snapshot = tmp_path / "hub" / f"models--{HUB_REPOSITORY.replace('/', '--')}"
    (snapshot / "refs").mkdir(parents=True)
    (snapshot / "refs" / "main").write_text("abc")
    found = {
        "own": tmp_path / "own" / "weights",
        "torch": tmp_path / "torch" / "hub" / "checkpoints",
        "hub": snapshot / "snapshots" / "abc",
    }
    for folder in found.values():
        folder.mkdir(parents=True)
    return found


def squeezenet(seed: int) -> Classifier:
    torch.manual_seed(seed)
    return Classifier("squeezenet1_1", 5, squeezenet1_1(5))


def published_squeezenet(network: Classifier, folder: Path) -> PublishedWeights:
    """Write a network's body as torchvision would publish it, and return the description of the file."""
    draft = folder / "draft.pth"
    torch.save({f"features.{key}": tensor for key, tensor in network.body.state_dict().items()}, draft)
    checksum = hashlib.sha256(draft.read_bytes()).hexdigest()[:8]
    file = f"squeezenet1_1-{checksum}.pth"
    draft.rename(folder / file)
    return replace(
        SQUEEZENET1_1, file=file, checksum=checksum, origin=Download(url=f"https://example.org/{file}")
    )


def same(one: nn.Module, other: nn.Module) -> bool:
    state = other.state_dict()
    return all(torch.equal(tensor, state[key]) for key, tensor in one.state_dict().items())


def entry_with(weights: PublishedWeights | None):
    return replace(MODELS["squeezenet1_1"], imagenet=weights)


@pytest.mark.parametrize("where", ["own", "torch"])
def test_file_is_found_in_each_cache(where: str, places):
    first, second = squeezenet(1), squeezenet(2)
    entry = entry_with(published_squeezenet(first, places[where]))
    assert entry.has_imagenet_weights
    load_weights(second, entry, "imagenet")
    assert same(first.body, second.body)
    assert not same(first.head, second.head)


def test_own_cache_comes_before_torchs(places):
    first, second = squeezenet(1), squeezenet(2)
    weights = published_squeezenet(first, places["torch"])
    other = published_squeezenet(second, places["own"])
    (places["own"] / other.file).rename(places["own"] / weights.file)
    assert weights.found() == places["own"] / weights.file


def test_file_of_the_hubs_cache_is_found(places):
    first, second = squeezenet(1), squeezenet(2)
    save_file(dict(first.state_dict()), places["hub"] / "model.safetensors")
    load_weights(second, entry_with(None), f"hf-hub:{HUB_REPOSITORY}")
    assert same(first, second)


def test_absent_weights_say_what_to_bring_and_where():
    entry = entry_with(SQUEEZENET1_1)
    assert not entry.has_imagenet_weights
    with pytest.raises(UsageError, match="forbids the network") as raised:
        load_weights(squeezenet(1), entry, "imagenet")
    message = str(raised.value)
    assert "\n" not in message
    for part in (
        SQUEEZENET1_1.file,
        str(SQUEEZENET1_1.place),
        "download.pytorch.org",
        "starts with b8a52dc0",
    ):
        assert part in message
    with pytest.raises(
        UsageError, match=r"huggingface\.co/nobody/nothing.*put it at .*nobody--nothing\.safet"
    ):
        load_weights(squeezenet(1), entry, "hf-hub:nobody/nothing")


def test_absent_file_is_brought_into_our_cache(places, tmp_path, monkeypatch):
    first, second = squeezenet(1), squeezenet(2)
    weights = published_squeezenet(first, tmp_path)

    def download(url: str, place: str, hash_prefix: str | None, progress: bool) -> None:
        assert (url, hash_prefix) == (f"https://example.org/{weights.file}", weights.checksum)
        assert socket.getdefaulttimeout() is not None
        (tmp_path / weights.file).rename(place)

    monkeypatch.delenv("HKBENCH_OFFLINE")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    load_weights(second, entry_with(weights), "imagenet")
    assert same(first.body, second.body)
    assert weights.found() == places["own"] / weights.file
    assert socket.getdefaulttimeout() is None


def test_file_of_the_hub_is_brought_into_its_cache(places, monkeypatch):
    first, second = squeezenet(1), squeezenet(2)

    def download(repository: str, file: str, etag_timeout: float) -> str:
        assert etag_timeout < 10
        save_file(dict(first.state_dict()), places["hub"] / file)
        return str(places["hub"] / file)

    monkeypatch.delenv("HKBENCH_OFFLINE")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    load_weights(second, entry_with(None), f"hf-hub:{HUB_REPOSITORY}")
    assert same(first, second)


@pytest.mark.parametrize(
    "error",
    [
        OSError("no route"),
        RuntimeError("invalid hash"),
        *(kind("gone") for kind in huggingface_hub.errors.HfHubHTTPError.__bases__),
    ],
)
def test_failed_download_is_one_line(error, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.delenv("HKBENCH_OFFLINE")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail)
    for weights in ("imagenet", "hf-hub:nobody/nothing"):
        with pytest.raises(UsageError, match=f"failed.*{error}.*put it at") as raised:
            load_weights(squeezenet(1), entry_with(SQUEEZENET1_1), weights)
        assert "\n" not in str(raised.value)


def test_damaged_file_is_refused(places):
    weights = published_squeezenet(squeezenet(1), places["own"])
    with weights.place.open("ab") as file:
        file.write(b"more")
    with pytest.raises(UsageError, match=f"should start with {weights.checksum}, found"):
        load_weights(squeezenet(2), entry_with(weights), "imagenet")


def test_own_file_brings_its_head_only_to_as_many_classes(tmp_path):
    path = tmp_path / "model.safetensors"
    first = squeezenet(1)
    save_file(dict(first.state_dict()), path)
    equal, wider = squeezenet(2), Classifier("squeezenet1_1", 6, squeezenet1_1(6))
    before = {key: tensor.clone() for key, tensor in wider.head.state_dict().items()}
    load_weights(equal, entry_with(None), str(path))
    load_weights(wider, entry_with(None), str(path))
    assert same(first, equal)
    assert same(first.body, wider.body)
    assert all(torch.equal(tensor, before[key]) for key, tensor in wider.head.state_dict().items())


def test_own_file_of_a_cut_is_taken_up(tmp_path):
    path = tmp_path / "model.pt"
    first = build("efficientnet_lite0_cut2", classes=5, seed=1)
    second = build("efficientnet_lite0_cut2", classes=5, seed=2)
    torch.save(first.state_dict(), path)
    load_weights(second, MODELS["efficientnet_lite0_cut2"], str(path))
    assert same(first, second)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_file_of_a_training_script_is_unwrapped(key: str, tmp_path):
    first, second = squeezenet(1), squeezenet(2)
    torch.save({key: first.state_dict(), "epoch": 3}, tmp_path / "last.pth")
    load_weights(second, entry_with(None), str(tmp_path / "last.pth"))
    assert same(first, second)


def test_tensors_that_do_not_fit_are_named(tmp_path):
    state = {f"features.{key}": tensor for key, tensor in squeezenet(1).body.state_dict().items()}
    state["features.0.weight"] = torch.zeros(64, 3, 7, 7)
    for key in ("features.3.squeeze.weight", "features.4.squeeze.bias", "features.4.squeeze.weight"):
        del state[key]
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(
        UsageError, match=r"0\.weight \(64×3×7×7 for 64×3×3×3\), 3\.sq.* \(missing for 16×"
    ) as raised:
        load_weights(squeezenet(2), entry_with(SQUEEZENET1_1), str(tmp_path / "odd.pth"))
    assert "and 1 more, out of 50 tensors" in str(raised.value)


class Trap:
    def __reduce__(self):
        return exit, ()


@pytest.mark.parametrize("content", [Trap(), [1, 2], {"weight": 3}])
def test_file_that_is_no_tensors_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(UsageError, match=r"odd\.pth should"):
        load_weights(squeezenet(2), entry_with(None), str(tmp_path / "odd.pth"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_torn_file_is_refused(suffix: str, tmp_path):
    (tmp_path / f"torn{suffix}").write_bytes(b"\x08\x00")
    with pytest.raises(UsageError, match=r"torn.* should be a file of named tensors") as raised:
        load_weights(squeezenet(2), entry_with(None), str(tmp_path / f"torn{suffix}"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("imagnet", "Did you mean 'imagenet'"),
        ("imagenet", "ever published.*efficientnet_lite0"),
        ("absent.pth", "no file of weights at absent.pth"),
        ("hf-hub:only-a-name", "hf-hub:OWNER/REPOSITORY, found 'hf-hub:only-a-name'"),
        ("hf-hub:a--b/c", "no repository 'a--b/c', for such a name can't be: .*--"),
        ("hf-hub:someone/nets.git", "no repository 'someone/nets.git'"),
    ],
)
def test_weights_that_are_not_there_are_refused(weights: str, message: str):
    with pytest.raises(UsageError, match=message):
        load_weights(squeezenet(1), entry_with(None), weights)


def test_files_from_before_batches_were_counted_are_taken(tmp_path):
    network = Classifier("densenet121", 5, densenet121(5))
    old = {}
    for key, tensor in network.body.state_dict().items():
        name = re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key)
        if not name.endswith("num_batches_tracked"):
            old[f"features.{name}"] = torch.full_like(tensor, 0.5)
    old["classifier.weight"] = torch.zeros(1000, 1024)
    torch.save(old, tmp_path / "old.pth")
    load_weights(network, MODELS["densenet121"], str(tmp_path / "old.pth"))
    for key, tensor in network.body.state_dict().items():
        assert (tensor == (0 if key.endswith("num_batches_tracked") else 0.5)).all()


def test_timms_own_keys_fill_lite0_too(tmp_path):
    theirs = timm.create_model("tf_efficientnet_lite0")
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    network = Classifier("efficientnet_lite0", 5, efficientnet_lite0(5))
    load_weights(network, MODELS["efficientnet_lite0"], str(tmp_path / "theirs.pth"))
    assert same(network.body, theirs)


def slopes(body: nn.Module) -> list[Tensor]:
    return [module.weight for module in body.modules() if isinstance(module, nn.PReLU)]


def with_prelu(seed: int) -> Classifier:
    """Build a SqueezeNet with PReLUs that look trained."""
    network = build(Architecture(model="squeezenet1_1", activation="prelu"), classes=5, seed=seed)
    for slope in slopes(network.body):
        nn.init.uniform_(slope)
    return network


@pytest.mark.parametrize("origin", ["path", "hub"])
def test_slopes_that_prelu_has_learned_come_from_a_file_of_our_own(origin: str, places):
    first = with_prelu(seed=1)
    path = places["hub"] / "model.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in first.state_dict().items()}, path)
    weights = str(path) if origin == "path" else f"hf-hub:{HUB_REPOSITORY}"
    architecture = Architecture(model="squeezenet1_1", activation="prelu")
    assert same(first, build(architecture, classes=5, seed=2, weights=weights))


@pytest.mark.parametrize("prefix", ["features.", "body."])
def test_prelu_begins_as_new_on_weights_of_another_activation(prefix: str, tmp_path):
    path = tmp_path / "relu.pth"
    body = squeezenet(1).body
    torch.save({f"{prefix}{key}": tensor for key, tensor in body.state_dict().items()}, path)
    architecture = Architecture(model="squeezenet1_1", activation="prelu")
    network = build(architecture, classes=5, seed=2, weights=str(path))
    assert same(body, network.body)
    assert all(float(slope.detach()) == 0.25 for slope in slopes(network.body))


def test_a_file_with_some_of_prelus_slopes_is_refused(tmp_path):
    state = with_prelu(seed=1).state_dict()
    del state["body.1.weight"]
    torch.save(state, tmp_path / "torn.pth")
    architecture = Architecture(model="squeezenet1_1", activation="prelu")
    with pytest.raises(UsageError, match=r"1\.weight \(missing for 1\)"):
        build(architecture, classes=5, weights=str(tmp_path / "torn.pth"))


def test_published_files_are_described():
    assert EFFICIENTNET_LITE0.licence == "Apache-2.0"
    assert EFFICIENTNET_LITE0.packaged
    assert (DENSENET121.file, DENSENET121.checksum) == ("densenet121-a639ec97.pth", "a639ec97")
    assert (DENSENET121.licence, DENSENET121.packaged) == ("BSD-3-Clause", False)
    assert INCEPTION_V3.checksum == "0cc3c7bd"
    assert MOBILENETV1_100.file == "mobilenetv1_100.ra4_e3600_r224_in1k.safetensors"
    assert "timm/mobilenetv1_100.ra4_e3600_r224_in1k" in str(MOBILENETV1_100.origin)
    assert densenet_key("classifier.weight") is None
