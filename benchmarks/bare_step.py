"""Forward, backward and optimiser step on one batch that stays: what a training can't do without."""

from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

BATCH = 64
SIZE = 64


def bare_step(
    network: torch.nn.Module, optimizer: Optimizer, dtype: torch.dtype | None, classes: int
) -> Callable[[], None]:
    """Return what takes one step on random pictures, in mixed precision if `dtype` is given."""
    random = torch.Generator().manual_seed(0)
    inputs = torch.rand(BATCH, 3, SIZE, SIZE, generator=random).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(classes, (BATCH,), generator=random)

    def step() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            logits = network(inputs)
        cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
