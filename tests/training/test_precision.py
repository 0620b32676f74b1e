"""Mixed precision on a CPU: faster layers in bfloat16, spared ones in float32, and the same network."""

import copy

import pytest
import torch
from torch import nn

from hkbench.models.build import build
from hkbench.models.registry import MODELS
from hkbench.training import precision
from hkbench.training.precision import mixed_dtype, suit_bfloat16

CPU = torch.device("cpu")
DEPTHWISE = "efficientnet_lite0_cut3"


def pictures(size=32):
    random = torch.Generator().manual_seed(0)
    return torch.rand(4, 3, size, size, generator=random).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_spared_network_is_the_same_network_outside_of_autocast(name):
    plain, spared = build(name, classes=5, seed=0).eval(), build(name, classes=5, seed=0).eval()
    suit_bfloat16(spared)
    assert spared.state_dict().keys() == plain.state_dict().keys()
    inputs = pictures(MODELS[name].smallest_image_size)
    with torch.inference_mode():
        assert torch.equal(spared(inputs), plain(inputs))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_mixed_gradients_are_as_near_to_those_of_float32_as_autocast_alone_gets(name):
    """A deep network that was never trained makes much of rounding, so autocast itself is the measure."""
    exact, plain, suited = (build(name, classes=5, seed=0).eval() for _ in range(3))
    suit_bfloat16(suited)
    inputs = pictures(MODELS[name].smallest_image_size)
    found = []
    for network in (exact, plain, suited):
        with torch.autocast("cpu", torch.bfloat16, enabled=network is not exact):
            logits = network(inputs)
        torch.nn.functional.cross_entropy(logits.float(), torch.arange(4)).backward()
        found.append(torch.cat([each.grad.flatten() for each in network.parameters()]))
    by_autocast, by_ours = (
        torch.nn.functional.cosine_similarity(found[0], other, dim=0) for other in found[1:]
    )
    assert by_ours > min(0.98, by_autocast - 0.02)
    assert not torch.equal(found[0], found[2])


def test_a_depthwise_convolution_with_a_stride_computes_in_float32_and_gives_bfloat16():
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 8, 16, 16, generator=random).bfloat16()
    exact = nn.Conv2d(8, 8, 3, stride=2, groups=8)
    spared = copy.deepcopy(exact)
    suit_bfloat16(spared)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(exact(inputs).float(), spared(inputs).float()), "bfloat16 multiplies coarser"
        found = spared(inputs)
    with torch.no_grad():
        assert torch.equal(found, exact(inputs.float()).bfloat16())


@pytest.mark.parametrize("side", [1, 3, 4, 5])
def test_a_1x1_convolution_on_a_small_map_is_a_matrix_product(side):
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 8, side, side, generator=random).contiguous(memory_format=torch.channels_last)
    exact = nn.Conv2d(8, 12, 1)
    suited = copy.deepcopy(exact)
    suit_bfloat16(suited)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = suited(inputs)
        assert found.dtype == torch.bfloat16
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found.float(), exact(inputs).float(), rtol=0.02, atol=0.02)
    with torch.no_grad():
        assert torch.equal(suited(inputs), exact(inputs))


def test_sparing_twice_and_copying_change_nothing():
    network = build(DEPTHWISE, classes=5, seed=0).eval()
    suit_bfloat16(network)
    once = [type(each) for each in network.modules()]
    suit_bfloat16(network)
    assert [type(each) for each in network.modules()] == once
    copied = copy.deepcopy(network)
    with torch.no_grad():
        next(copied.parameters()).add_(1)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(copied(pictures()), network(pictures()))


def test_the_hardware_decides_unless_it_is_told(monkeypatch):
    for capable in (True, False):
        monkeypatch.setattr(precision, "has_fast_bfloat16", lambda capable=capable: capable)
        assert mixed_dtype(CPU, wanted=None) == (torch.bfloat16 if capable else None)
        assert mixed_dtype(CPU, wanted=True) is torch.bfloat16
        assert mixed_dtype(CPU, wanted=False) is None


@pytest.mark.parametrize(("capable", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_trains_in_bfloat16_or_in_float16_where_it_lacks_that(monkeypatch, capable, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: capable)
    assert mixed_dtype(torch.device("cuda"), wanted=None) is dtype
