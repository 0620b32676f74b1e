"""The student's step itself: mixed precision and a fused optimiser against eager float32, channels-last."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.bare_step import BATCH, bare_step
from benchmarks.claim import Claim, machine, main
from hkbench.config import usable_cores
from hkbench.models.build import build
from hkbench.training.optimizers import OptimizerConfig, build_optimizer
from hkbench.training.precision import mixed_dtype, suit_bfloat16

MODELS = ("mobilenetv4_conv_small_050", "squeezenet1_1", "efficientnet_lite0_cut4")
CLASSES = 69
TARGET = 1.2
CPU = torch.device("cpu")


def measure(quick: bool) -> Claim:
    """Time a step of three students, ours and eager float32, each at its best number of threads."""
    rounds = 5 if quick else 15
    rows = {model: _compare(model, rounds) for model in MODELS}
    value = min(row["speedup"] for row in rows.values())
    return Claim(
        name="student_step",
        value=value,
        unit="times as fast, the least of three students",
        target=f"at least {TARGET}",
        holds=value >= TARGET,
        details={
            "ms_a_picture": rows,
            "precision": str(mixed_dtype(CPU, wanted=None) or torch.float32),
            **machine(threads="best"),
        },
    )


def _compare(model: str, rounds: int) -> dict[str, Any]:
    threads = sorted({1, usable_cores()})
    steps = {
        (kind, number): make(model)
        for kind, make in (("eager", _eager), ("ours", _ours))
        for number in threads
    }
    times: dict[tuple[str, int], list[float]] = {key: [] for key in steps}
    for round_ in range(rounds + 1):
        for (kind, number), step in steps.items():
            torch.set_num_threads(number)
            started = time.perf_counter()
            step()
            if round_:  # the first is a warm-up
                times[kind, number].append(time.perf_counter() - started)
    medians = {key: statistics.median(found) / BATCH * 1e3 for key, found in times.items()}
    best = {kind: min(medians[kind, number] for number in threads) for kind in ("eager", "ours")}
    return {
        **{f"{kind}, {number} threads": value for (kind, number), value in medians.items()},
        "speedup": best["eager"] / best["ours"],
    }


def _eager(model: str) -> Callable[[], None]:
    network = build(model, classes=CLASSES, seed=0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    return bare_step(network, optimizer, None, CLASSES)


def _ours(model: str) -> Callable[[], None]:
    network = build(model, classes=CLASSES, seed=0)
    dtype = mixed_dtype(CPU, wanted=None)
    if dtype is not None:
        suit_bfloat16(network)
    optimizer = build_optimizer(network, OptimizerConfig(name="sgd", learning_rate=0.01))
    return bare_step(network, optimizer, dtype, CLASSES)


if __name__ == "__main__":
    main(measure)
