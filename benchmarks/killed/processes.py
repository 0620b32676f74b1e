"""The processes of a search: found by a variable that all of them inherit, and killed by their ids."""

import contextlib
import os
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

import psutil

from benchmarks.killed.notes import NOTES, Note
from hkbench.errors import HkbenchError

GONE_WITHIN_S = 10.0
TRIES = 3
SESSION = "hkbench-*/session_*_{driver}"
"""Where Ray keeps its files for a driver of hkbench; one that is killed leaves the folder behind."""


def of_search(notes: Path) -> list[psutil.Process]:
    """Return what lives of the search that writes its notes there, orphans included."""
    return [process for process in psutil.process_iter() if _writes_to(process, notes)]


def _writes_to(process: psutil.Process, notes: Path) -> bool:
    try:
        return process.environ().get(NOTES) == str(notes)
    except (psutil.Error, OSError):
        return False


def worker_of(notes: list[Note], driver: int) -> psutil.Process | None:
    """Return the process that trains the epoch which began last, if it lives and is no orphan."""
    for note in reversed(notes):
        if note.what == "began":
            with contextlib.suppress(psutil.Error):
                worker = psutil.Process(note.pid)
                if driver in {parent.pid for parent in worker.parents()}:
                    return worker
    return None


def raylet_of(driver: int) -> psutil.Process | None:
    """Return Ray's node process that this driver has started."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(driver).children(recursive=True):
            if child.name() == "raylet":
                return child
    return None


def kill_together(processes: Iterable[psutil.Process]) -> None:
    """Kill several processes as if the machine had lost its power: all are stopped first, then killed."""
    found = list(processes)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)


def end_all(notes: Path, drivers: Iterable[int]) -> None:
    """End whatever a search has left, and remove what Ray kept for its drivers, which are given by their ids.

    Raises:
        HkbenchError: a process lives on.
    """
    for _ in range(TRIES):
        left = of_search(notes)
        if not left:
            break
        kill_together(left)
        psutil.wait_procs(left, timeout=GONE_WITHIN_S)
    else:
        raise HkbenchError(f"Processes of the killed search live on: {[each.pid for each in left]}.")
    for driver in drivers:
        for session in Path("/tmp").glob(SESSION.format(driver=driver)):
            shutil.rmtree(session.parent, ignore_errors=True)


def environment(notes: Path, home: Path, path: Iterable[Path]) -> dict[str, str]:
    """Return the environment of a search of one thread a trial, which keeps everything below `home`."""
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return kept | {
        "HOME": str(home),
        "HKBENCH_CACHE": str(home / "cache"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        NOTES: str(notes),
    }
