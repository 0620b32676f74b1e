"""Do the named families give what their papers' networks give, stage by stage, whole and cut?"""

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.inception import InceptionAux

from hkbench.models import densenet, inception, lite0, mobilenet, squeezenet
from hkbench.models.classifier import Classifier, Parts, parameter_count
from hkbench.models.cut import cut_parts, light_head

CLASSES = 69
BUILDERS = {
    "densenet121": densenet.densenet121,
    "densenet161": densenet.densenet161,
    "densenet201": densenet.densenet201,
    "inception_v3": inception.inception_v3,
    "squeezenet1_0": squeezenet.squeezenet1_0,
    "squeezenet1_1": squeezenet.squeezenet1_1,
    "mobilenetv1_100": mobilenet.mobilenetv1_100,
    "mobilenetv2_100": mobilenet.mobilenetv2_100,
    "mobilenetv3_small_100": mobilenet.mobilenetv3_small_100,
    "mobilenetv3_large_100": mobilenet.mobilenetv3_large_100,
    "mobilenetv4_conv_small": mobilenet.mobilenetv4_conv_small,
    "mobilenetv4_conv_small_050": mobilenet.mobilenetv4_conv_small_050,
    "efficientnet_lite0": lite0.efficientnet_lite0,
}
SMALLEST = {"inception_v3": 75}
ORIGINALS = {
    "densenet121": lambda: torchvision.models.densenet121(),
    "inception_v3": lambda: torchvision.models.inception_v3(init_weights=True),
    "squeezenet1_0": lambda: torchvision.models.squeezenet1_0(),
    "mobilenetv1_100": lambda: timm.create_model("mobilenetv1_100"),
    "mobilenetv2_100": lambda: timm.create_model("mobilenetv2_100"),
    "mobilenetv3_small_100": lambda: timm.create_model("mobilenetv3_small_100"),
    "mobilenetv4_conv_small": lambda: timm.create_model("mobilenetv4_conv_small"),
}
"""Networks with a classifier of 1000, as their libraries build them."""


def sketch(name: str) -> Parts:
    with torch.device("meta"):
        return BUILDERS[name](CLASSES)


def through(parts: Parts, stages: int, pictures: Tensor) -> Tensor:
    for name in (name for stage in parts.stages[:stages] for name in stage):
        pictures = parts.body.get_submodule(name)(pictures)
    return pictures


@pytest.mark.parametrize("name", BUILDERS)
def test_smallest_picture_goes_through_and_the_stages_are_the_body(name: str):
    parts = sketch(name)
    edge = SMALLEST.get(name, 32)
    pictures = torch.empty(2, 3, edge, edge, device="meta")
    features = parts.body(pictures)
    assert features.shape[:2] == (2, parts.channels)
    assert parts.head(features).shape == (2, CLASSES)
    assert through(parts, len(parts.stages), pictures).shape == features.shape
    network = Classifier(name, CLASSES, parts)
    held = [network.stage_of(f"body.{key}") for key, _ in parts.body.named_parameters()]
    assert sorted(set(held)) == list(range(len(parts.stages)))


@pytest.mark.parametrize("name", ["densenet121", "inception_v3", "squeezenet1_0", "mobilenetv3_small_100"])
def test_activations_are_modules(name: str):
    activations = (nn.ReLU, nn.Hardswish)
    assert sum(isinstance(module, activations) for module in sketch(name).body.modules()) >= 18


@pytest.mark.parametrize("name", ORIGINALS)
def test_body_computes_what_the_original_computes(name: str):
    torch.manual_seed(0)
    original, parts = ORIGINALS[name]().eval(), BUILDERS[name](CLASSES)
    theirs = {key.removeprefix("features."): tensor for key, tensor in original.state_dict().items()}
    parts.body.load_state_dict({key: theirs[key] for key in parts.body.state_dict()})
    last = (
        original.classifier[1]
        if name.startswith("squeezenet")
        else original.get_submodule("fc" if name == "inception_v3" else "classifier")
    )
    seen: list[Tensor] = []
    last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pictures = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        original(pictures)
        features = parts.body.eval()(pictures)
    expected = seen[0] if seen[0].ndim == 4 else seen[0][:, :, None, None]
    pooled = features if seen[0].ndim == 4 else features.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-5)


def test_inception_takes_75_pixels_and_its_auxiliary_head_299():
    parts = sketch("inception_v3")
    auxiliary = parts.auxiliary
    assert auxiliary is not None
    with pytest.raises(RuntimeError, match="size"):
        parts.body(torch.empty(2, 3, 74, 74, device="meta"))
    edge = auxiliary.smallest_image_size
    middle = through(parts, auxiliary.after, torch.empty(2, 3, edge, edge, device="meta"))
    assert auxiliary.head(middle).shape == (2, CLASSES)
    with pytest.raises(RuntimeError, match="size"):
        auxiliary.head(through(parts, auxiliary.after, torch.empty(2, 3, edge - 1, edge - 1, device="meta")))


def test_inceptions_auxiliary_head_is_the_original_one_for_our_classes():
    auxiliary = sketch("inception_v3").auxiliary
    assert auxiliary is not None
    assert parameter_count(auxiliary.head) == parameter_count(InceptionAux(768, CLASSES))


@pytest.mark.parametrize(("stages", "parameters"), [(2, 28_021), (3, 83_989), (4, 292_709)])
def test_lite0_is_cut_after_a_stage_of_blocks(stages: int, parameters: int):
    parts = cut_parts(sketch("efficientnet_lite0"), stages + 1, CLASSES)
    assert parameter_count(Classifier("cut", CLASSES, parts)) == parameters
    assert len(parts.stages) == stages + 1


@pytest.mark.parametrize("name", ["densenet121", "inception_v3", "squeezenet1_1", "mobilenetv3_small_100"])
def test_every_cut_has_the_first_layers_under_their_names(name: str):
    whole = sketch(name)
    edge = SMALLEST.get(name, 32)
    names = set(whole.body.state_dict())
    for stages in range(1, len(whole.stages) + 1):
        with torch.device("meta"):
            parts = cut_parts(sketch(name), stages, CLASSES)
        pictures = torch.empty(2, 3, edge, edge, device="meta")
        features = parts.body(pictures)
        assert features.shape == through(whole, stages, pictures).shape
        assert parts.head(features).shape == (2, CLASSES)
        assert set(parts.body.state_dict()) <= names
        assert parts.auxiliary is None


def test_cutting_leaves_weights_and_statistics_alone():
    whole = BUILDERS["squeezenet1_1"](CLASSES)
    before = {key: tensor.clone() for key, tensor in whole.body.state_dict().items()}
    parts = cut_parts(whole, 2, CLASSES)
    assert all(torch.equal(tensor, before[key]) for key, tensor in parts.body.state_dict().items())


@pytest.mark.parametrize(("channels", "width"), [(16, 128), (31, 128), (32, 256), (512, 256)])
def test_light_head_is_narrow_on_narrow_maps(channels: int, width: int):
    head = light_head(channels, CLASSES)
    assert head[0].conv.weight.shape == (width, channels, 1, 1)
    assert head(torch.rand(2, channels, 3, 3)).shape == (2, CLASSES)


@pytest.mark.parametrize("name", BUILDERS)
def test_untrained_logits_are_of_a_size_that_an_export_can_be_checked_with(name: str):
    torch.manual_seed(0)
    network = Classifier(name, CLASSES, BUILDERS[name](CLASSES)).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 96, 96)).abs().max() < 100
