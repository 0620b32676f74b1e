"""Do the packaged EfficientNet-Lite0 weights fit the network that they are loaded into?"""

import timm
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn.functional import interpolate

from hkbench.models.classifier import IMAGENET_MEAN, IMAGENET_STD, Normalise
from hkbench.models.lite0 import MEAN, STD
from hkbench.models.registry import build
from hkbench.models.weights import EFFICIENTNET_LITE0, lite0_key, read

PALACES = {442, 663, 698}  # ImageNet's bell cote, monastery, palace
DAISY = 985


def packaged() -> dict[str, Tensor]:
    return read(EFFICIENTNET_LITE0.path())


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
