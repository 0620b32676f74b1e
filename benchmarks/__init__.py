"""hkbench against what a user would otherwise do: one module a claim, `python -m benchmarks.NAME --json`."""
