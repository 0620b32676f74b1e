"""What every network must do, whatever it is: all of the registry, and six of timm's and torchvision's."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.functional import cross_entropy

from hkbench.export.onnx import check_export, content_of, described, export_onnx, float_model
from hkbench.export.quantize.int8 import Quantizer
from hkbench.export.quantize.recipe import Layout, Recipe
from hkbench.models.architecture import Architecture
from hkbench.models.build import build, sketch
from hkbench.models.classifier import Classifier, parameter_count
from hkbench.models.registry import MODELS, entry_of
from hkbench.shipping.facts import typical_metadata
from hkbench.study.costs import predicted_cost

CLASSES = 5
FOREIGN = (
    "timm/resnet18",
    "timm/ghostnet_100",
    "timm/vit_tiny_patch16_224",
    "torchvision/resnet18",
    "torchvision/shufflenet_v2_x0_5",
    "torchvision/mobilenet_v3_small",
)
QUICK = {
    "baseline_cnn", "household", "squeezenet1_1", "mobilenetv4_conv_small_050", "efficientnet_lite0_cut3",
    "densenet121", "inception_v3", "timm/vit_tiny_patch16_224", "torchvision/shufflenet_v2_x0_5",
}  # fmt: skip
"""One of each family, which CI runs; the others are for `make test-all`."""


@pytest.fixture(
    params=[
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in (*sorted(MODELS), *FOREIGN)
    ],
    name="name",
)
def _name(request) -> str:
    return request.param


LARGE = {"densenet121", "inception_v3", "timm/vit_tiny_patch16_224", "torchvision/shufflenet_v2_x0_5"}


def pytest_generate_tests(metafunc):
    """Run a test of precisions over the registry: in CI, in int8, over the small ones of `QUICK`."""
    if "precision" not in metafunc.fixturenames:
        return
    cases = [(name, precision) for name in (*sorted(MODELS), *FOREIGN) for precision in ("fp32", "int8")]
    metafunc.parametrize(
        ("name", "precision"),
        [
            pytest.param(
                name,
                precision,
                marks=[] if name in QUICK - LARGE and precision == "int8" else pytest.mark.slow,
            )
            for name, precision in cases
        ],
    )


def usual_size(name: str) -> int:
    """Return a size that goods69 is searched at, or the least that the network takes."""
    return max(64, entry_of(name).smallest_image_size)


def made(name: str, **changes) -> Classifier:
    size = changes.pop("image_size", usual_size(name))
    return build(Architecture(model=name, image_size=size), classes=CLASSES, **{"seed": 0, **changes})


def pictures(size: int, batch: int = 4) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def one_step(network: Classifier, size: int) -> float:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.01)
    loss = cross_entropy(network(pictures(size)), torch.arange(4) % CLASSES)
    loss.backward()
    optimizer.step()
    return loss.item()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_entry_says_what_it_is(name: str):
    entry = entry_of(name)
    assert entry.name == name
    assert entry.family
    assert entry.source
    assert 8 <= entry.smallest_image_size <= entry.usual_image_size
    if entry.imagenet is not None:
        assert entry.imagenet.licence
        assert entry.imagenet.origin


def test_logits_at_the_smallest_and_at_the_usual_size(name: str):
    entry = entry_of(name)
    for size in {entry.smallest_image_size, usual_size(name), entry.usual_image_size}:
        network = made(name, image_size=size).eval()
        with torch.inference_mode():
            logits = network(pictures(size, batch=2))
        assert logits.shape == (2, CLASSES)
        assert logits.dtype == torch.float32
        assert torch.isfinite(logits).all()


def test_features_and_head_make_the_logits(name: str):
    network, size = made(name).eval(), usual_size(name)
    with torch.inference_mode():
        features = network.features(pictures(size))
        assert features.ndim == 4
        torch.testing.assert_close(network.head(features), network(pictures(size)))


def test_one_step_gives_finite_gradients_and_moves_every_part(name: str):
    network = made(name)
    before = {key: tensor.clone() for key, tensor in network.named_parameters()}
    assert math.isfinite(one_step(network, usual_size(name)))
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
    moved = {key for key, tensor in network.named_parameters() if not torch.equal(tensor, before[key])}
    assert any(key.startswith("body.") for key in moved)
    assert any(key.startswith("head.") for key in moved)


def test_trains_at_its_smallest_size(name: str):
    size = entry_of(name).smallest_image_size
    assert math.isfinite(one_step(made(name, image_size=size), size))


def test_seed_makes_the_same_network_and_leaves_the_global_generator(name: str):
    state = torch.get_rng_state()
    first = made(name, seed=7)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert same(first.state_dict(), made(name, seed=7).state_dict())
    assert not same(first.state_dict(), made(name, seed=8).state_dict())


def test_state_goes_through_safetensors(name: str):
    network, size = made(name).eval(), usual_size(name)
    content = save({key: tensor.contiguous() for key, tensor in network.state_dict().items()})
    other = made(name, seed=1).eval()
    other.load_state_dict(load(content))
    with torch.inference_mode():
        assert torch.equal(network(pictures(size)), other(pictures(size)))


def test_the_exported_file_gives_the_networks_logits(name: str, tmp_path):
    network, size = made(name), usual_size(name)
    with torch.no_grad():
        for _ in range(3):  # batch-norm statistics of these pictures, or noise would be amplified
            network(pictures(size, batch=8))
    labels = [str(number) for number in range(CLASSES)]
    artifact = export_onnx(network, tmp_path / "model.onnx", image_size=size, labels=labels, metadata={})
    shown = np.random.default_rng(0).integers(0, 256, (33, 3, size, size), dtype=np.uint8)
    assert check_export(artifact, network, shown) >= 0


def test_its_bytes_are_known_before_it_is_trained(name: str, precision: str):
    """In int8 the smaller ones alone are for CI: half a minute goes into quantising a large one."""
    size = usual_size(name)
    labels = tuple(str(number) for number in range(CLASSES))
    architecture = Architecture(model=name, image_size=size)
    predicted = predicted_cost(architecture, precision, labels).artifact_bytes
    network = made(name, seed=3)
    one_step(network, size)
    model = float_model(network.eval(), size)
    if precision == "int8":
        shown = np.random.default_rng(0).integers(0, 256, (64, 3, size, size), dtype=np.uint8)
        model = Quantizer(model, shown).quantized(Recipe(layout=Layout(float_stem=True)))
    described(model, architecture.label, size, labels, typical_metadata(precision))
    assert predicted == pytest.approx(len(content_of(model)), rel=0.03)


def test_a_new_classifier_keeps_the_body(name: str):
    network, size = made(name), usual_size(name)
    body = {key: tensor.clone() for key, tensor in network.body.state_dict().items()}
    network.reset_classifier(7)
    assert network.classes == 7
    assert same(network.body.state_dict(), body)
    with torch.inference_mode():
        assert network.eval()(pictures(size)).shape == (4, 7)


def test_only_the_head_grows_with_the_classes(name: str):
    few, many = (
        sketch(Architecture(model=name, image_size=usual_size(name)), classes) for classes in (5, 69)
    )
    assert parameter_count(few.body) == parameter_count(many.body)
    assert parameter_count(few) < parameter_count(many)
    assert parameter_count(many) == parameter_count(many.body) + parameter_count(many.head)


def test_frozen_body_stays_as_it_was(name: str):
    network = made(name, unfreeze="none")
    body = {key: tensor.clone() for key, tensor in network.body.state_dict().items()}
    head = {key: tensor.clone() for key, tensor in network.head.state_dict().items()}
    network.train()
    one_step(network, usual_size(name))
    assert same(network.body.state_dict(), body), "weights and batch-norm statistics"
    assert not same(network.head.state_dict(), head)
    assert all(parameter.grad is None for parameter in network.body.parameters())
    assert network.head.training
    layers = [module for module in network.body.modules() if not list(module.children())]
    held = {
        module
        for stage in network.stages
        for each in stage
        for module in network.body.get_submodule(each).modules()
    }
    assert not any(layer.training for layer in layers if layer in held)


def test_kept_stages_and_the_rest_make_the_logits(name: str):
    network, size = made(name).eval(), usual_size(name)
    assert len(network.stages) >= 2
    with torch.inference_mode():
        logits = network(pictures(size))
        for frozen in range(len(network.stages) + 1):
            network.freeze(frozen)
            torch.testing.assert_close(
                network.logits_from(network.frozen_features(pictures(size))), logits, rtol=0, atol=1e-5
            )


def test_every_parameter_of_the_body_belongs_to_one_stage(name: str):
    network = made(name)
    for key, _ in network.body.named_parameters():
        inside = [stage for stage in network.stages if any(key.startswith(f"{each}.") for each in stage)]
        assert len(inside) == 1, key


def test_frozen_stages_stay_as_they_were_and_the_rest_learns(name: str):
    network = made(name).freeze(1)
    frozen = {key for key, parameter in network.named_parameters() if not parameter.requires_grad}
    whole = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    one_step(network, usual_size(name))
    moved = [key for key, tensor in network.state_dict().items() if not torch.equal(tensor, whole[key])]
    assert frozen
    assert not frozen & set(moved)
    assert any(key.startswith("body.") for key in moved)


@pytest.mark.parametrize(
    "name", [name for name, entry in MODELS.items() if entry.imagenet and entry.imagenet.packaged]
)
def test_imagenet_weights_fill_the_body_and_only_it(name: str):
    first = made(name, weights="imagenet")
    second = made(name, seed=1, weights="imagenet")
    assert same(first.body.state_dict(), second.body.state_dict())
    assert not same(first.head.state_dict(), second.head.state_dict())
