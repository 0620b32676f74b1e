"""Why a network can't be written as ONNX: the operator, and the layer that it stands in."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hkbench.errors import HkbenchError

FAILED_NODE = re.compile(r"translating node %(\w+).*?target=torch\.ops\.([\w.]+)", re.DOTALL)


class NotExportableError(HkbenchError):
    """A network that ONNX has no words for."""


def explained(error: Exception, network: nn.Module, pictures: Tensor, name: str) -> NotExportableError:
    """Return an error that names the operator or the layer which torch's exporter stumbled over.

    Args:
        error: what the exporter raised.
        network: what was exported, in eval mode.
        pictures: what it was traced with, (batch, 3, S, S).
        name: what the user calls the network.
    """
    found = FAILED_NODE.search(_whole(error))
    if found is None:
        layer = _stops_in(network, pictures)
        where = f"its layer {layer} can't be traced" if layer else "it can't be traced"
        return NotExportableError(
            f"{name} can't be exported: {where} ({_cause(error)}). A layer must not choose what it does by "
            "the values of its pictures; take another network, or put another layer in its place."
        )
    node, operator = found.groups()
    layer = _layer_of(node, network, pictures)
    where = f", in the layer {layer}" if layer else ""
    return NotExportableError(
        f"{name} can't be exported: ONNX has no operator for {operator.removesuffix('.default')}{where}. "
        "Take another network, or put another layer in its place."
    )


def _whole(error: BaseException) -> str:
    """Return the messages of an error and of all that caused it."""
    return "\n".join([str(error), *([_whole(error.__cause__)] if error.__cause__ else [])])


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"


def _layer_of(node: str, network: nn.Module, pictures: Tensor) -> str | None:
    """Return the layer that a node of the traced and decomposed network comes from."""
    program = torch.export.export(network, (pictures,), strict=False).run_decompositions()
    found = next((each for each in program.graph.nodes if each.name == node), None)
    stack = [] if found is None else list(found.meta.get("nn_module_stack", {}).values())
    return stack[-1][0] or None if stack else None


def _stops_in(network: nn.Module, pictures: Tensor) -> str | None:
    """Return the innermost layer that tracing the network stops in."""
    with _entered(network) as inside:
        try:
            torch.export.export(network, (pictures,), strict=False)
        except Exception:  # noqa: BLE001 - it is known to fail; only where is asked
            return inside[-1] if inside else None
    return None


@contextmanager
def _entered(network: nn.Module) -> Iterator[list[str]]:
    """Yield the names of the layers that are being run, the innermost last."""
    inside: list[str] = []
    hooks = []
    for name, module in network.named_modules():
        if name:
            hooks.append(module.register_forward_pre_hook(lambda *_, name=name: inside.append(name)))
            hooks.append(module.register_forward_hook(lambda *_: inside.pop() and None))
    try:
        yield inside
    finally:
        for hook in hooks:
            hook.remove()
