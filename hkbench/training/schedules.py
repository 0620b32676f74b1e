"""Learning-rate schedules by name: each a factor on the peak learning rate, step by step."""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hkbench.errors import unknown

DROPS = (0.5, 0.75)
"""Shares of all steps after which the step schedule divides the rate by ten."""
RISE = 0.3
START = 1 / 25
"""The one-cycle schedule rises over this share of the steps, from this factor."""


def cosine(step: int, steps: int, warmup_steps: int) -> float:
    """Return half a cosine, from 1 down to 0 at the end.

    Source: arXiv 1608.03983, equation 5, without restarts.
    """
    if step < warmup_steps:
        return _warm_up(step, warmup_steps)
    return _half_cosine((step - warmup_steps) / max(1, steps - warmup_steps))


def steps_down(step: int, steps: int, warmup_steps: int) -> float:
    """Return 1, a tenth after half of all steps, a hundredth after three quarters.

    Source: arXiv 1512.03385, section 4.2, where the rate falls after 32,000 and 48,000 of 64,000 steps.
    """
    if step < warmup_steps:
        return _warm_up(step, warmup_steps)
    return 0.1 ** sum(step >= share * steps for share in DROPS)


def one_cycle(step: int, steps: int, _: int) -> float:
    """Return a factor that rises in a line from 1/25 to 1 over 30 % of the steps, then a cosine down to 0.

    Source: arXiv 1708.07120, section 3. It has its warm-up built in, so none is added.
    """
    rise = RISE * steps
    if step < rise:
        return START + (1 - START) * step / rise
    return _half_cosine((step - rise) / (steps - rise))


def constant(step: int, _: int, warmup_steps: int) -> float:
    """Return 1."""
    return _warm_up(step, warmup_steps) if step < warmup_steps else 1.0


SCHEDULES: dict[str, Callable[[int, int, int], float]] = {
    "cosine": cosine,
    "step": steps_down,
    "one_cycle": one_cycle,
    "constant": constant,
}
"""Name → the factor on the peak learning rate, of (step from 0, steps in all, steps of warm-up)."""


def build_schedule(name: str, optimizer: Optimizer, *, steps: int, warmup_steps: int) -> LambdaLR:
    """Build the named schedule, to be stepped once for each optimiser step; groups keep their ratio.

    Raises:
        UsageError: an unknown name.
    """
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    factor = SCHEDULES[name]
    return LambdaLR(optimizer, lambda step: factor(step, steps, warmup_steps))


def _warm_up(step: int, warmup_steps: int) -> float:
    """Return a line up to 1, which the last step of the warm-up reaches (arXiv 1706.02677, section 2.2)."""
    return (step + 1) / warmup_steps


def _half_cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
