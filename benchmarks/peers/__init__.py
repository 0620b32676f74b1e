"""What a user would do without hkbench, written as the tools' own documentation shows it.

Nothing here is a claim: `benchmarks/search_speed.py` times these against hkbench.
"""
