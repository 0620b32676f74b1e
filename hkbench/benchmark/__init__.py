"""Measures: exported files, a process for each row; and this machine, for trainings. May import training."""
