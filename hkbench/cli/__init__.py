"""The commands: one module a verb; each parses, calls one function and prints. May import every room."""
