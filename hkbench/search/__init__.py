"""Proposes, schedules and records trials. May import every room below; only runner and trial import ray."""
