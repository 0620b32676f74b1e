"""Run every benchmark and keep what it found under results/bench/."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import benchmarks

OUT = Path("results/bench")
NOT_CLAIMS = {"__main__", "claim"}


def claims() -> list[str]:
    """Return the names of the modules that make a claim; packages beside them only help."""
    found = pkgutil.iter_modules(benchmarks.__path__)
    return [module.name for module in found if not module.ispkg and module.name not in NOT_CLAIMS]


def main() -> None:
    """Run the modules one after the other, each in a process of its own; a failing one stops no other."""
    OUT.mkdir(parents=True, exist_ok=True)
    missed = []
    for name in claims():
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", "--json"], stdout=subprocess.PIPE, text=True
        )
        try:
            claim = json.loads(done.stdout) if done.returncode == 0 else None
        except ValueError:
            claim = None
        if claim is None:
            print(f"{name}: failed, exit code {done.returncode}")
            missed.append(f"{name} (failed)")
            continue
        (OUT / f"{name}.json").write_text(done.stdout)
        print(f"{name}: {claim['value']:.4g} {claim['unit']}, target {claim['target']}")
        if not claim["holds"]:
            missed.append(name)
    if missed:
        sys.exit(f"not reached: {', '.join(missed)}")


if __name__ == "__main__":
    main()
