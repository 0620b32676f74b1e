"""What every benchmark module prints, and how its command line reads."""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from hkbench.config import usable_cores
from hkbench.store.environment import cpu_model, versions


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A figure that was measured in this run, beside its target. Shares are fractions: 3 % is 0.03."""

    name: str
    value: float
    unit: str
    target: str
    holds: bool
    details: dict[str, Any] = field(default_factory=dict)


def machine(*, threads: int | str) -> dict[str, Any]:
    """Return what a figure belongs to: processor, cores, threads and the versions that matter."""
    known = versions()
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "threads": threads,
        "versions": {name: known[name] for name in ("torch", "torchvision", "ray", "numpy") if name in known},
    }


@contextmanager
def cold_cache() -> Iterator[None]:
    """Give hkbench an empty cache for a while."""
    before = os.environ.get("HKBENCH_CACHE")
    with tempfile.TemporaryDirectory(prefix="hkbench-cold-") as folder:
        os.environ["HKBENCH_CACHE"] = folder
        try:
            yield
        finally:
            os.environ.pop("HKBENCH_CACHE")
            if before is not None:
                os.environ["HKBENCH_CACHE"] = before


def main(measure: Callable[[bool], Claim]) -> None:
    """Run `measure(quick)` and print what it found, as a line or as one JSON object."""
    parser = argparse.ArgumentParser(description=measure.__doc__)
    parser.add_argument("--quick", action="store_true", help="at most 45 seconds on 2 cores")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    flags = parser.parse_args()
    claim = measure(flags.quick)
    if flags.json:
        print(json.dumps(asdict(claim)))
    else:
        verdict = "holds" if claim.holds else "does NOT hold"
        print(f"{claim.name}: {claim.value:.4g} {claim.unit}, target {claim.target}: {verdict}")
