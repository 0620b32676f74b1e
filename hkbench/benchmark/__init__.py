"""Measures exported files, a process for each row. May import export, telemetry and what lies below."""
