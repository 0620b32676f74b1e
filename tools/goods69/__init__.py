"""Renders goods69, pictures of 69 classes of household goods, from freely licensed 3D models.

Run as `python -m tools.goods69`; nothing in `hkbench` imports it.
"""

TOOL_VERSION = "1.0"
"""Raised whenever the same seed gives other pixels; shards of another version are not reused."""
