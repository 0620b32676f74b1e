"""What a command leaves on disk: the run directory, its records, and writes that survive a kill.

May import config and errors only.
"""
