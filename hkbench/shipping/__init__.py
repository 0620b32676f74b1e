"""From a trained network to the files that are shipped: made, verified, picked, bundled.

May import benchmark, training, export and what lies below.
"""
