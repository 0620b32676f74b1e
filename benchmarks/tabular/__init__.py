"""Searches replayed in simulated time over recorded learning curves.

`record` makes a table from a run of `hkbench search --sampler grid`, `table` reads it, `simulator` gives its
epochs to a strategy, `peers` are other people's strategies and `ours` is the search that hkbench makes.
"""
