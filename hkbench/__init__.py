"""hkbench finds the smallest, fastest image classifier that is as accurate as needed, and proves it."""

__version__ = "0.1.0"
