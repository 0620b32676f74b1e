"""Which point comes next: Optuna's samplers behind one searcher, and our own, `frontier`."""
