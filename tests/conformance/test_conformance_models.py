"""What every network in the registry must do, whatever it is."""

import math

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.functional import cross_entropy

from hkbench.models.registry import MODELS, Classifier, build, parameter_count

CLASSES = 5


@pytest.fixture(params=sorted(MODELS), name="name")
def _name(request) -> str:
    return request.param


def pictures(size: int, batch: int = 4) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def one_step(network: Classifier, size: int = 64) -> float:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.01)
    loss = cross_entropy(network(pictures(size)), torch.arange(4) % CLASSES)
    loss.backward()
    optimizer.step()
    return loss.item()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_entry_says_what_it_is(name: str):
    entry = MODELS[name]
    assert entry.name == name
    assert entry.family
    assert entry.note
    assert entry.source
    assert entry.smallest_image_size >= 8


def test_logits_at_the_smallest_and_at_64_pixels(name: str):
    network = build(name, classes=CLASSES, seed=0).eval()
    for size in (MODELS[name].smallest_image_size, 64):
        with torch.inference_mode():
            logits = network(pictures(size))
        assert logits.shape == (4, CLASSES)
        assert logits.dtype == torch.float32
        assert torch.isfinite(logits).all()


def test_features_and_head_make_the_logits(name: str):
    network = build(name, classes=CLASSES, seed=0).eval()
    with torch.inference_mode():
        features = network.features(pictures(64))
        assert features.ndim == 4
        torch.testing.assert_close(network.head(features), network(pictures(64)))


def test_one_step_gives_finite_gradients_and_moves_every_part(name: str):
    network = build(name, classes=CLASSES, seed=0)
    before = {key: tensor.clone() for key, tensor in network.named_parameters()}
    assert math.isfinite(one_step(network))
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
    moved = {key for key, tensor in network.named_parameters() if not torch.equal(tensor, before[key])}
    assert any(key.startswith("body.") for key in moved)
    assert any(key.startswith("head.") for key in moved)


def test_trains_at_its_smallest_size(name: str):
    network = build(name, classes=CLASSES, seed=0)
    assert math.isfinite(one_step(network, MODELS[name].smallest_image_size))


def test_seed_makes_the_same_network_and_leaves_the_global_generator(name: str):
    state = torch.get_rng_state()
    first = build(name, classes=CLASSES, seed=7)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert same(first.state_dict(), build(name, classes=CLASSES, seed=7).state_dict())
    assert not same(first.state_dict(), build(name, classes=CLASSES, seed=8).state_dict())


def test_state_goes_through_safetensors(name: str):
    network = build(name, classes=CLASSES, seed=0).eval()
    content = save({key: tensor.contiguous() for key, tensor in network.state_dict().items()})
    other = build(name, classes=CLASSES, seed=1).eval()
    other.load_state_dict(load(content))
    with torch.inference_mode():
        assert torch.equal(network(pictures(64)), other(pictures(64)))


def test_only_the_head_grows_with_the_classes(name: str):
    few, many = build(name, classes=CLASSES, seed=0), build(name, classes=69, seed=0)
    assert parameter_count(few.body) == parameter_count(many.body)
    assert parameter_count(few) < parameter_count(many)
    assert parameter_count(many) == parameter_count(many.body) + parameter_count(many.head)


def test_frozen_body_stays_as_it_was(name: str):
    network = build(name, classes=CLASSES, seed=0, frozen_body=True)
    body = {key: tensor.clone() for key, tensor in network.body.state_dict().items()}
    head = {key: tensor.clone() for key, tensor in network.head.state_dict().items()}
    network.train()
    one_step(network)
    assert same(network.body.state_dict(), body), "weights and batch-norm statistics"
    assert not same(network.head.state_dict(), head)
    assert all(parameter.grad is None for parameter in network.body.parameters())
    assert network.head.training
    layers = [module for module in network.body.modules() if not list(module.children())]
    assert not any(layer.training for layer in layers)


def test_stages_are_the_whole_body_in_its_order(name: str):
    whole = build(name, classes=CLASSES, seed=0).eval()
    assert len(whole.stages) >= 3
    with torch.inference_mode():
        logits = whole(pictures(64))
        for frozen in range(len(whole.stages) + 1):
            network = build(name, classes=CLASSES, seed=0, frozen_stages=frozen).eval()
            torch.testing.assert_close(
                network.logits_from(network.frozen_features(pictures(64))), logits, rtol=0, atol=0
            )


def test_frozen_stages_stay_as_they_were_and_the_rest_learns(name: str):
    network = build(name, classes=CLASSES, seed=0, frozen_stages=2)
    frozen = {key: tensor.clone() for key, tensor in network.frozen_state().items()}
    whole = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    one_step(network)
    assert same(network.frozen_state(), frozen)
    moved = [key for key, tensor in network.state_dict().items() if not torch.equal(tensor, whole[key])]
    assert any(key.startswith("body.") for key in moved)


@pytest.mark.parametrize(
    "name", [name for name, entry in MODELS.items() if entry.imagenet and entry.imagenet.packaged]
)
def test_imagenet_weights_fill_the_body_and_only_it(name: str):
    first = build(name, classes=CLASSES, seed=0, weights="imagenet")
    second = build(name, classes=CLASSES, seed=1, weights="imagenet")
    assert same(first.body.state_dict(), second.body.state_dict())
    assert not same(first.head.state_dict(), second.head.state_dict())
