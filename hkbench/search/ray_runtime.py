"""Ray's own processes: started quietly on this machine, or a cluster joined; and gone when a search ends."""

import logging
import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import ray
from ray.exceptions import RayError

from hkbench.config import usable_cores
from hkbench.errors import UsageError
from hkbench.search.plan import SearchPlan

OBJECT_STORE_BYTES = 256 * 1024**2
ANSWER_WITHIN_S = 5.0
GONE_WITHIN_S = 5.0
STOPPING = (signal.SIGINT, signal.SIGTERM)
"""The signals that end a search cleanly."""
WHERE_FROM = "The address is from --address or RAY_ADDRESS; without either, the search runs on this machine."


@contextmanager
def ray_runtime(plan: SearchPlan) -> Iterator[None]:
    """Start Ray on this machine, or join the cluster at the plan's address, for as long as it takes.

    Raises:
        UsageError: no cluster answers at the address, or it refuses us.
    """
    if ray.is_initialized():
        yield
        return
    # Short, for the paths of Ray's sockets lie below it and must not pass 107 bytes.
    short = "/tmp" if os.name == "posix" else None
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    others = _children()

    def as_before() -> None:
        for number, handler in handlers.items():  # Ray's own would end the process without a word
            signal.signal(number, handler)

    with tempfile.TemporaryDirectory(prefix="hkbench-", dir=short, ignore_cleanup_errors=True) as folder:
        try:
            if plan.address:
                _join(plan.address)
            else:
                _start(folder)
            as_before()
            yield
        finally:
            _shut_down(others)
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


def _start(folder: str) -> None:
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:  # without a token, Ray would leave one in the user's home
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
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
