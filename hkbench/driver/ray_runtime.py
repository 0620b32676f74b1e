"""Ray's own processes: started quietly on this machine, or a cluster joined; and gone when a search ends."""

import atexit
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import ray
from filelock import FileLock, Timeout
from ray.exceptions import RayError

from hkbench.config import usable_cores
from hkbench.driver.plan import SearchPlan
from hkbench.driver.signals import keeping_handlers
from hkbench.errors import HkbenchError, UsageError

PREFIX, LOCK = "hkbench-", "driver.lock"
"""How the folders of Ray's own files begin, and what a driver holds in its own as long as it lives."""
OBJECT_STORE_BYTES = 256 * 1024**2
ANSWER_WITHIN_S = 5.0
GONE_WITHIN_S = 5.0
HEAD_BACK_WITHIN_S = 20.0
"""Ray itself waits a minute for a cluster's head, and then ends the process without a word."""
HEAD_ANSWERS_WITHIN_S = 2.0
NEEDED = ("raylet", "gcs_server")
WHERE_FROM = "The address is from --address or RAY_ADDRESS; without either, the search runs on this machine."


_broken: list[bool] = []
"""Not empty once Ray was left broken: it says that it is still there, and would hang."""


class RuntimeLostError(HkbenchError):
    """Ray's own processes on this machine are gone, and with them all workers."""


class Runtime:
    """What nothing goes on without: Ray's processes, as it was started here, or the head of a cluster.

    Args:
        processes: of which those that Ray needs are watched.
        head: address and port of a cluster's head, which may be out of reach for `HEAD_BACK_WITHIN_S`.
        clock: in seconds.
    """

    def __init__(
        self,
        processes: Iterable[psutil.Process] = (),
        head: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._head = head
        self._clock = clock
        self._away_since: float | None = None
        self._needed = [process for process in processes if _name(process).startswith(NEEDED)]
        self.workers: set[psutil.Process] = set()

    @property
    def lost(self) -> str | None:
        """What has ended and must not, in words; None where all is there."""
        ended = next((_name(process) for process in self._needed if not _lives(process)), None)
        if ended is not None:
            return f"Ray's process {ended} on this machine has ended, killed or for want of memory"
        if self._away_since is not None and self._clock() - self._away_since > HEAD_BACK_WITHIN_S:
            return f"The head of the Ray cluster, {self._head}, has been out of reach for a while"
        return None

    def look(self) -> RuntimeLostError | None:
        """Return the error with which to end where Ray's processes are gone; remember its workers where not.

        Ray itself would wait a minute for them, and then end this process without a word.
        """
        if self._head is None or _answers(self._head):
            self._away_since = None
        elif self._away_since is None:
            self._away_since = self._clock()
        lost = self.lost
        if lost is None:
            for process in self._needed:
                with suppress(psutil.Error):
                    self.workers |= set(process.children())
            return None
        return RuntimeLostError(
            f"{lost}. Nothing that was recorded is lost: go on with the same command and --resume."
        )


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return "raylet"


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=HEAD_ANSWERS_WITHIN_S):
            return True
    except (OSError, ValueError):
        return False


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _remove_orphans(folders: Path) -> None:
    """Remove the folders of searches that were killed: nobody holds their lock."""
    for folder in folders.glob(f"{PREFIX}*"):
        with suppress(Timeout, OSError):
            if (folder / LOCK).is_file():
                with FileLock(folder / LOCK, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def ray_runtime(plan: SearchPlan) -> Iterator[Runtime]:
    """Start Ray on this machine, or join the cluster at the plan's address, for as long as it takes.

    Raises:
        UsageError: no cluster answers at the address, or it refuses us.
    """
    if _broken:
        raise RuntimeLostError("Ray was lost in this process: go on in a new one, with --resume.")
    if ray.is_initialized():
        yield Runtime()
        return
    # Short, for the paths of Ray's sockets lie below it and must not pass 107 bytes.
    folders = "/tmp" if os.name == "posix" else tempfile.gettempdir()
    as_before = keeping_handlers()  # Ray's own would end the process without a word
    others = _children()
    runtime = Runtime()
    _remove_orphans(Path(folders))
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, dir=folders, ignore_cleanup_errors=True) as folder,
        FileLock(Path(folder) / LOCK),
    ):
        try:
            if plan.address:
                _join(plan.address)
                runtime = Runtime(head=str(ray.get_runtime_context().gcs_address))
            else:
                _start(folder)
                runtime = Runtime(_children() - others)
            as_before()
            yield runtime
        finally:
            if runtime.lost is None:
                _shut_down(others)
            else:
                _abandon((_children() - others) | runtime.workers)
            as_before()


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _shut_down(others: set[psutil.Process]) -> None:
    """Leave Ray, and wait for the processes that it started here: a worker may yet write its checkpoint.

    `others` were there before it, such as Python's own tracker of shared resources, and stay.
    """
    started = list(_children() - others)
    ray.shutdown()
    _, alive = psutil.wait_procs(started, timeout=GONE_WITHIN_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _abandon(processes: set[psutil.Process]) -> None:
    """End what is left of a Ray that is broken, and this process without asking Ray when it comes to its end.

    To leave in order would take a minute and fail.
    """
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _broken.append(True)
    atexit.register(_end_without_ray)


def _end_without_ray() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(RuntimeLostError.exit_code)


def _start(folder: str) -> None:
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:  # without a token, Ray would leave one in the user's home
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        _init_here(folder)
    except Exception as error:  # Ray raises just that where its processes don't come up in time
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise RuntimeLostError(
            f"Ray can't be started on this machine: {said} Nothing that was recorded is lost: once there is "
            "less load or more memory, go on with the same command and --resume."
        ) from error


def _init_here(folder: str) -> None:
    ray.init(
        address="local",
        num_cpus=usable_cores(),
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _temp_dir=folder,
    )


def _join(address: str) -> None:
    check_address(address)
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (RayError, ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"The Ray cluster at {address} can't be joined: {str(error).splitlines()[0]} {WHERE_FROM}"
        ) from error


def check_address(address: str) -> None:
    """Refuse an address at which nothing answers; Ray itself would wait for minutes.

    Raises:
        UsageError: it is neither `auto` nor HOST:PORT, or nothing answers there.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"A cluster's address is HOST:PORT or auto, found '{address}'. {WHERE_FROM}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"No Ray cluster answers at {address}: {error}. {WHERE_FROM}") from error
