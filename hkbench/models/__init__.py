"""Networks by name. May import config and errors."""
