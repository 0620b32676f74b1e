"""Mixed precision: bfloat16 where a device is faster in it, float32 where it isn't."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

SMALL_MAP = 4
"""A feature map of this side or less, in pixels, is small: see `suit_bfloat16`."""


def mixed_dtype(device: torch.device, *, wanted: bool | None) -> torch.dtype | None:
    """Return the reduced precision to train in on a device, or None for float32 throughout.

    `wanted` None leaves the choice to the hardware: on a GPU bfloat16, or float16 on those that lack it; on
    a CPU bfloat16 if it has instructions for it.
    """
    if wanted is False:
        return None
    if device.type == "cuda":  # emulated, it would be slow
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if wanted or has_fast_bfloat16() else None


@functools.cache
def has_fast_bfloat16() -> bool:
    """Say whether this CPU multiplies bfloat16 by itself (AVX-512 BF16 or AMX), not by way of float32."""
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def suit_bfloat16(network: nn.Module) -> None:
    """Let the convolutions of `network` go the way that a CPU is fastest at in a mixed precision.

    Depthwise ones with a stride or a kernel over 3 pixels, or on maps below `SMALL_MAP`, stay in float32:
    their backward pass takes up to 25 times longer in bfloat16 (torch 2.14, AVX-512 BF16), more than all else
    gains. Those of 1×1 on small maps become the matrix products that they are, up to 6 times as fast. The
    modules change their class, not their parameters; outside of autocast they are what they were.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not isinstance(module, _Float32Depthwise | _Product):
            convolution: Any = type(module)
            if module.groups > 1:
                module.__class__ = _mixed(_Float32Depthwise, convolution)
            elif module.kernel_size == module.stride == (1, 1) and module.padding in (0, (0, 0)):
                module.__class__ = _mixed(_Product, convolution)


class _Float32Depthwise:
    """Mixed into a convolution's class: computes in float32 where that is faster, gives the shorter type."""

    def forward(self, inputs: Tensor) -> Tensor:
        assert isinstance(self, nn.Conv2d)
        plain: Callable[[Tensor], Tensor] = super().forward  # type: ignore[misc]
        is_fast = self.stride == (1, 1) and max(self.kernel_size) <= 3 and min(inputs.shape[2:]) >= SMALL_MAP
        if is_fast or not torch.is_autocast_enabled("cpu"):
            return plain(inputs)
        with torch.autocast("cpu", enabled=False):
            return plain(inputs.float()).to(torch.get_autocast_dtype("cpu"))


class _Product:
    """Mixed into the class of a 1×1 convolution: a matrix product on small maps."""

    def forward(self, inputs: Tensor) -> Tensor:
        assert isinstance(self, nn.Conv2d)
        plain: Callable[[Tensor], Tensor] = super().forward  # type: ignore[misc]
        if max(inputs.shape[2:]) > SMALL_MAP or not torch.is_autocast_enabled("cpu"):
            return plain(inputs)
        pixels = inputs.permute(0, 2, 3, 1)  # channels last, as they lie in memory
        return nn.functional.linear(pixels, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


@functools.cache
def _mixed(way: Any, convolution: Any) -> Any:
    """Return the class of objects of class `convolution` that go another way."""
    return type(f"{way.__name__}{convolution.__name__}", (way, convolution), {})
