"""Devices by name."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hkbench.benchmark.devices import Found, Missing, find, parse_device, parse_devices
from hkbench.errors import UsageError

no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")


def test_names_are_read_in_order_each_device_once() -> None:
    devices = parse_devices(["cpu", " cuda", "cuda:0", "cuda:1"])
    assert [device.name for device in devices] == ["cpu", "cuda:0", "cuda:1"]


@given(st.integers(0, 10_000))
def test_the_name_of_a_device_reads_as_that_device(index: int) -> None:
    device = parse_device(f"cuda:{index}")
    assert device.index == index
    assert parse_device(device.name) == device


def test_misspelt_device_is_refused_with_a_near_name() -> None:
    with pytest.raises(UsageError, match=r"There is no device 'cdua'\. Did you mean 'cuda'\?"):
        parse_device("cdua:0")


@pytest.mark.parametrize("name", ["", "cuda:", "cuda:-1", "cuda:x", "cuda:1.5", "cuda:²", "cpu:0", "cuda0"])
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        parse_device(name)


def test_the_processor_is_there() -> None:
    found = find(parse_device("cpu"))
    assert isinstance(found, Found)
    assert found.model
    assert found.uuid is None


@no_cuda
def test_cuda_device_that_is_not_there_says_why() -> None:
    found = find(parse_device("cuda"))
    assert isinstance(found, Missing)
    assert found.reason.startswith("torch finds no CUDA device: ")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_device_has_a_model_and_a_uuid() -> None:
    found = find(parse_device("cuda"))
    assert isinstance(found, Found)
    assert found.uuid is not None
    assert found.uuid.startswith("GPU-")
    beyond = find(parse_device(f"cuda:{torch.cuda.device_count()}"))
    assert isinstance(beyond, Missing)
