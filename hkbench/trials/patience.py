"""Storage that is out of reach for a while: tried again for half a minute, then the search stops."""

import errno
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from optuna.exceptions import StorageInternalError

from hkbench.errors import HkbenchError

log = logging.getLogger(__name__)
T = TypeVar("T")

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
FULL = (errno.ENOSPC, errno.EDQUOT)


class StorageError(HkbenchError):
    """A disk or a database that can't be reached."""


class Patience:
    """Calls what reads or writes the study and its records, again and again where that may help."""

    def __init__(
        self,
        where: str,
        *,
        mend: Callable[[], None],
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`where` names the storage in the error; `mend` is called before each new try."""
        self._where = where
        self._mend = mend
        self._sleep = sleep
        self._clock = clock
        self.retried = 0

    def __call__(self, call: Callable[[], T]) -> T:
        """Return what `call` returns.

        Raises:
            OSError: the disk is full, which waiting doesn't mend.
            StorageError: it was out of reach to the end.
        """
        began = self._clock()
        for wait_s in (*WAITS_S, None):
            try:
                return call()
            except (OSError, StorageInternalError) as error:
                if isinstance(error, OSError) and error.errno in FULL:
                    raise
                if wait_s is None:
                    raise self._given_up(error, self._clock() - began) from error
                log.warning("%s can't be reached (%s); another try in %g s", self._where, _why(error), wait_s)
                self.retried += 1
                self._sleep(wait_s)
                self._mended()
        raise AssertionError

    def _given_up(self, error: Exception, seconds: float) -> StorageError:
        return StorageError(
            f"{self._where} can't be reached: {_why(error)}. It was tried {len(WAITS_S) + 1} times "
            f"in {seconds:.0f} s. Nothing that was recorded is lost: once it is there again, give the same "
            "command, with --resume if a search was under way."
        )

    def _mended(self) -> None:
        try:
            self._mend()
        except OSError as error:
            log.debug("could not mend %s: %s", self._where, error)


def _why(error: Exception) -> str:
    """Return what an error says in a line; Optuna's own words for any failed commit blame the data."""
    said = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    return (str(said).splitlines() or [type(said).__name__])[0].strip().rstrip(".")
