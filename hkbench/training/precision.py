"""Mixed precision: bfloat16 where a device is faster in it, float32 where it isn't."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

SMALLEST_MAP = 4
"""Below this side, in pixels, a depthwise convolution in bfloat16 is slower on a CPU."""


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


def spare_depthwise(network: nn.Module) -> None:
    """Keep those depthwise convolutions of `network` in float32 that a CPU is far slower at in bfloat16.

    With a stride or a kernel over 3 pixels their backward pass takes up to 25 times longer there (torch
    2.14, AVX-512 BF16), more than all else gains. They change their class, not their parameters; outside of
    autocast they are what they were.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1 and not isinstance(module, _Spared):
            convolution: Any = type(module)
            spared: Any = _spared(convolution)
            module.__class__ = spared


class _Spared:
    """Mixed into a convolution's class: computes in float32 where that is faster, gives bfloat16."""

    def forward(self, inputs: Tensor) -> Tensor:
        assert isinstance(self, nn.Conv2d)
        plain: Callable[[Tensor], Tensor] = super().forward  # type: ignore[misc]
        is_fast = (
            self.stride == (1, 1) and max(self.kernel_size) <= 3 and min(inputs.shape[2:]) >= SMALLEST_MAP
        )
        if is_fast or not torch.is_autocast_enabled("cpu"):
            return plain(inputs)
        with torch.autocast("cpu", enabled=False):
            return plain(inputs.float()).to(torch.get_autocast_dtype("cpu"))


@functools.cache
def _spared(convolution: Any) -> Any:
    """Return the class of `convolution`'s objects once they are spared."""
    return type(f"Spared{convolution.__name__}", (_Spared, convolution), {})
