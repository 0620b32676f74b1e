"""What is said of a network that ONNX has no words for: the operator, the layer, and what to do."""

import logging

import pytest
import torch
from small_network import SIZE, small_classifier
from torch import nn

from hkbench.errors import HkbenchError
from hkbench.export.failures import NotExportableError
from hkbench.export.onnx import export_onnx


class Eigenvalues(nn.Module):
    """Adds the eigenvalues of the channels' products: ONNX has none."""

    def forward(self, features):
        """Map (batch, channels, h, w) to the same."""
        flat = features.flatten(2)
        return features + torch.linalg.eigvalsh(flat @ flat.transpose(1, 2))[:, :, None, None]


class Branch(nn.Module):
    """Does one thing or another, by the values that it is given."""

    def forward(self, features):
        """Map any tensor to one of its shape."""
        return 2 * features if features.mean() > 0 else features


class Wrapped(nn.Module):
    """A layer within a layer."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, features):
        """Map what the inner layer maps."""
        return self.inner(features)


def export(network, folder):
    return export_onnx(network, folder / "model.onnx", image_size=SIZE, labels=("a", "b", "c"), metadata={})


@pytest.fixture(autouse=True)
def _without_torch_s_log():
    """Keep what torch says of a failed trace out of the tests' output."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    ("layer", "where"),
    [
        pytest.param(Eigenvalues(), r"body\.1\.3", marks=pytest.mark.slow),
        (Wrapped(Eigenvalues()), r"body\.1\.3\.inner"),
    ],
)
def test_an_operator_that_onnx_lacks_is_named_with_its_layer(layer, where, tmp_path):
    network = small_classifier()
    network.body[1].append(layer)
    wanted = rf"small can't be exported.*no operator for aten\._?linalg_eigh, in the layer {where}\. Take"
    with pytest.raises(NotExportableError, match=wanted):
        export(network, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_branch_on_values_is_named_by_its_layer(tmp_path):
    network = small_classifier()
    network.body[1].append(Wrapped(Branch()))
    with pytest.raises(NotExportableError, match=r"its layer body\.1\.3\.inner can't be traced .*values"):
        export(network, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_comes_after_others_is_the_one_that_is_named(tmp_path):
    network = small_classifier()
    network.head = nn.Sequential(network.head, Branch())
    with pytest.raises(NotExportableError, match=r"its layer head\.1 can't be traced"):
        export(network, tmp_path)


def test_the_network_is_left_as_it_was(tmp_path):
    network = small_classifier()
    network.body[1].append(Branch())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(HkbenchError):
        export(network, tmp_path)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
