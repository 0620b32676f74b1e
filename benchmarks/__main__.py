"""Run every benchmark, or those that are named, and keep what they found under results/bench/."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import benchmarks

OUT = Path("results/bench")
NOT_CLAIMS = {"__main__", "bare_step", "claim", "int8_students"}
HEAD = """# What the benchmarks found

Made by `make bench`; one module alone: `python -m benchmarks NAME`. Everything that was measured, and on
what, is in the file beside.

| module | found | target | |
|---|---|---|---|
"""


def claims() -> list[str]:
    """Return the names of the modules that make a claim; packages beside them only help."""
    found = pkgutil.iter_modules(benchmarks.__path__)
    return [module.name for module in found if not module.ispkg and module.name not in NOT_CLAIMS]


def main(names: list[str]) -> None:
    """Run the modules one after the other, each in a process of its own; a failing one stops no other."""
    if unknown := set(names) - set(claims()):
        sys.exit(f"no such benchmark: {', '.join(sorted(unknown))}. There are: {', '.join(claims())}")
    OUT.mkdir(parents=True, exist_ok=True)
    missed = []
    for name in names or claims():
        claim, why = _run(name)
        if claim is None:
            print(f"{name}: failed, {why}")
            missed.append(f"{name} (failed)")
            continue
        (OUT / f"{name}.json").write_text(json.dumps(claim, indent=1) + "\n")
        print(f"{name}: {claim['value']:.4g} {claim['unit']}, target {claim['target']}", flush=True)
        if not claim["holds"]:
            missed.append(name)
    _write_table()
    if missed:
        sys.exit(f"not reached: {', '.join(missed)}")


def _run(name: str) -> tuple[dict[str, Any] | None, str]:
    """Return what a module has claimed, or None and why not."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--json"], stdout=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        return None, f"exit code {done.returncode}"
    try:
        return json.loads(done.stdout), ""
    except ValueError:
        return None, "it printed no JSON"


def _write_table() -> None:
    """Write the table of all claims that are kept."""
    rows = [json.loads(path.read_text()) for path in sorted(OUT.glob("*.json"))]
    lines = [
        f"| [`{row['name']}`]({row['name']}.json) | {row['value']:.3g} {row['unit']} | {row['target']} "
        f"| {'holds' if row['holds'] else 'not reached'} |"
        for row in rows
    ]
    (OUT / "README.md").write_text(HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
