"""Run every benchmark and keep what it found under results/bench/."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import benchmarks

OUT = Path("results/bench")
NOT_CLAIMS = {"__main__", "claim"}


def main() -> None:
    """Run the modules one after the other, each in a process of its own."""
    names = [
        module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name not in NOT_CLAIMS
    ]
    OUT.mkdir(parents=True, exist_ok=True)
    missed = []
    for name in names:
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", "--json"], capture_output=True, text=True, check=True
        )
        (OUT / f"{name}.json").write_text(done.stdout)
        claim = json.loads(done.stdout)
        print(f"{name}: {claim['value']:.4g} {claim['unit']}, target {claim['target']}")
        if not claim["holds"]:
            missed.append(name)
    if missed:
        sys.exit(f"not reached: {', '.join(missed)}")


if __name__ == "__main__":
    main()
