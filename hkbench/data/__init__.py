"""Pictures, their store, their split and their views. May import store, config and errors."""
