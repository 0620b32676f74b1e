"""Activations by name, and how all of a network's are swapped for another."""

from collections.abc import Callable, Iterator
from functools import partial

from timm.layers import activations as timm_activations
from timm.layers import activations_me as timm_lean_activations
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from hkbench.errors import unknown

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "relu6": partial(nn.ReLU6, inplace=True),
    "leaky_relu": partial(nn.LeakyReLU, inplace=True),
    "prelu": nn.PReLU,
    "elu": partial(nn.ELU, inplace=True),
    "selu": partial(nn.SELU, inplace=True),
    "gelu": nn.GELU,
    "silu": partial(nn.SiLU, inplace=True),
    "hardswish": partial(nn.Hardswish, inplace=True),
    "mish": partial(nn.Mish, inplace=True),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
"""All that a space can name. Those that can work in place do, so put them after a layer whose result nobody
else reads."""

KINDS = (
    nn.CELU,
    nn.ELU,
    nn.GELU,
    nn.Hardshrink,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,  # ReLU6 is one of these
    nn.LeakyReLU,
    nn.LogSigmoid,
    nn.Mish,
    nn.PReLU,
    nn.ReLU,
    nn.RReLU,
    nn.SELU,
    nn.Sigmoid,
    nn.SiLU,
    nn.Softplus,
    nn.Softshrink,
    nn.Softsign,
    nn.Tanh,
    nn.Tanhshrink,
    timm_activations.GELU,
    timm_activations.GELUTanh,
    timm_activations.HardMish,
    timm_activations.HardSigmoid,
    timm_activations.HardSwish,
    timm_activations.Mish,
    timm_activations.QuickGELU,
    timm_activations.Sigmoid,
    timm_activations.Swish,
    timm_activations.Tanh,
    timm_lean_activations.HardMishMe,
    timm_lean_activations.HardSigmoidMe,
    timm_lean_activations.HardSwishMe,
    timm_lean_activations.MishMe,
    timm_lean_activations.SwishMe,
)
"""What counts as an activation, in torch and in timm."""

NAMES: dict[type[nn.Module], str] = {
    **{type(make()): name for name, make in ACTIVATIONS.items()},
    timm_activations.GELU: "gelu",
    timm_activations.HardSwish: "hardswish",
    timm_activations.Mish: "mish",
    timm_activations.Sigmoid: "sigmoid",
    timm_activations.Swish: "silu",
    timm_activations.Tanh: "tanh",
    timm_lean_activations.HardSwishMe: "hardswish",
    timm_lean_activations.MishMe: "mish",
    timm_lean_activations.SwishMe: "silu",
}
"""What compute the activations of `ACTIVATIONS`, in torch and in timm."""

GATES = ("gate", "gate_act", "gate_fn", "scale_activation", "sigmoid", "bias_act")
"""What timm and torchvision call the function that turns an attention's scores into weights; it stays, since
it has to end between 0 and 1."""


def activation_factory(name: str) -> Callable[..., nn.Module]:
    """Return what makes a fresh activation, for timm's layers too: it takes and ignores their `inplace`.

    Raises:
        UsageError: no such activation.
    """
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    make = ACTIVATIONS[name]

    def activation(inplace: bool = False) -> nn.Module:  # noqa: ARG001, timm's layers pass it
        return make()

    return activation


def swap_activations(module: nn.Module, name: str) -> int:
    """Put a fresh activation `name` in the place of each one inside `module`, and return how many there were.

    Gates of attentions stay. So do activations that a forward calls as functions: they are no modules.
    Dropout stops to work in place.

    Raises:
        UsageError: no such activation.
    """
    make = activation_factory(name)
    places = list(_places(module))
    for parent, place, old in places:
        setattr(parent, place, _in_place_of(old, make(), module))
    for dropout in module.modules():
        if isinstance(dropout, _DropoutNd):
            # Backward of some activations, such as ReLU, needs their result as it was.
            dropout.inplace = False
    return len(places)


def activations_in(module: nn.Module) -> set[str]:
    """Return the names of the activations that `swap_activations` would replace.

    One that `ACTIVATIONS` doesn't have goes by the name of its class.
    """
    kinds = {type(child) for _, _, child in _places(module)}
    return {NAMES.get(kind, kind.__name__) for kind in kinds}


def activation_weights(module: nn.Module) -> set[str]:
    """Return the keys of the weights that activations inside `module` learn, such as PReLU's slopes."""
    return {
        f"{name}.{weight}"
        for name, child in module.named_modules()
        if isinstance(child, KINDS)
        for weight, _ in child.named_parameters()
    }


def _places(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield each activation that is no gate, after its parent and its name there."""
    for parent in module.modules():
        for place, child in parent.named_children():
            if isinstance(child, KINDS) and place not in GATES:
                yield parent, place, child


def _in_place_of(old: nn.Module, fresh: nn.Module, whole: nn.Module) -> nn.Module:
    # Whether somebody else reads the input is known to whoever placed the old one.
    if hasattr(fresh, "inplace"):
        fresh.inplace = bool(getattr(old, "inplace", False))  # type: ignore[assignment]
    like = next(whole.parameters(), None)
    return (fresh if like is None else fresh.to(like)).train(old.training)
