"""Which trial goes on: halving on Pareto rank, and what a trial can still reach."""
