"""The errors that a user sees: what was expected, what was found, what to do."""

import difflib
from collections.abc import Iterable


class HkbenchError(Exception):
    """Something that the user can act on; the command line prints its message and ends with `exit_code`."""

    exit_code = 1


class UsageError(HkbenchError):
    """A flag, name, file or picture that can't be used as it is."""

    exit_code = 2


class IncompleteError(HkbenchError):
    """Work that was done, with something missing that the user asked for."""

    exit_code = 3


class NoTrialCompletedError(HkbenchError):
    """A search that ended without one trial to show."""

    exit_code = 4


class StoppedError(HkbenchError):
    """Work that the user stopped and can resume."""

    exit_code = 130


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Build the error for a name that isn't in a registry, with the nearest known name."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return UsageError(f"There is no {kind} '{name}'.{hint} Known: {', '.join(names)}.")
