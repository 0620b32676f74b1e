"""The error for a name that a library doesn't have; the libraries have too many names to list them all."""

import difflib
from collections.abc import Sequence

from hkbench.errors import UsageError

NEAR = 5


def unknown_foreign(library: str, name: str, known: Sequence[str]) -> UsageError:
    """Build the error for a network that `library` doesn't have, with its nearest names."""
    near = difflib.get_close_matches(name, known, n=NEAR, cutoff=0.5)
    hint = f"The nearest: {', '.join(f'{library}/{other}' for other in near)}." if near else "None is near."
    return UsageError(f"{library} has no classifier '{name}'. {hint} {library} lists its {len(known)} names.")
