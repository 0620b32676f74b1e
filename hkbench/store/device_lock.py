"""Who may use a device now: trainings share it, and a measurement has it to itself between two batches.

Each device has two empty files in the cache. A training holds the lock shared, and before each batch it tries
the gate. A measurement shuts the gate, waits for the batches that are under way, and then holds both files
alone. They are `flock` locks: the kernel frees them however their process ends.

What holds what, all or nothing, so that nobody waits with something in hand:

- Trainings on the CPU: the host. Trainings on a GPU: that GPU and the host, whose cores launch their kernels.
- Latency on the CPU: the host. On a GPU: that GPU and the host, since at batch 1 the launches are what is
  timed. So either pauses every training of the machine.
- Energy of a GPU: that GPU alone, since its counter sees nothing else. Trainings on other devices go on.

Where the cache's file system has no such locks, or the system has none, nothing pauses; a warning says so.
"""

import functools
import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hkbench.config import cache_dir

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

HOST = "cpu"
"""The device of all processors together. Others are named by their UUID."""
BATCH_S = 60.0
"""How long a measurement waits for a batch to end. One that takes longer hangs, or is being compiled."""
TURN_S = 120.0
"""How long a measurement waits for others that came first."""
LONGEST_WAIT_S = BATCH_S + TURN_S
"""How long a measurement on one device may come to wait."""
PAUSE_S = 600.0
"""How long a training waits for measurements, longer than any takes: whoever measures has been stopped."""
LOOK_S = 0.001
PAUSED_LOOK_S = 0.01
"""How often a paused training looks again: seldom enough to be no noise in what is measured."""
BOOT = Path("/proc/sys/kernel/random/boot_id")


def devices_of(uuid: str | None) -> tuple[str, ...]:
    """Return what work holds: the host, and the GPU whose UUID is given."""
    return (HOST,) if uuid is None else (HOST, uuid)


class DeviceShare:
    """One training's share of its devices: held within its `with` block, but for pauses.

    A share belongs to one thread; `holds` says whether it has its devices now. A call of `pause` that finds
    nobody waiting takes 3 microseconds for one device and 6 for two, on a busy machine.
    """

    def __init__(
        self,
        devices: Sequence[str] = (),
        *,
        finish: Callable[[], None] | None = None,
        patience_s: float = PAUSE_S,
    ) -> None:
        """Prepare to share `devices`, from `devices_of`.

        Args:
            devices: what to hold.
            finish: waits for the work that the devices still have, before they are left. A GPU needs it.
            patience_s: how long to wait for measurements before going on beside them.
        """
        self._devices = devices
        self._finish = finish
        self._patience_s = patience_s
        self._doors: list[_Door] = []
        self._paused_s = 0.0
        self.holds = False

    def __enter__(self) -> Self:
        self._doors = _open_doors(name for name in self._devices if name not in _here.alone)
        self.take()
        _here.shares.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _here.shares.remove(self)
        self.leave()
        _close(self._doors)
        self._doors = []

    def pause(self) -> None:
        """Let measurements that wait go first; called between two batches."""
        if not all(door.open for door in self._doors):
            self.leave()
            self.take()

    def take(self) -> None:
        """Wait until nobody measures on any of the devices, and share them."""
        begun = time.perf_counter()
        while not self._taken():
            if time.perf_counter() - begun > self._patience_s:
                log.warning(
                    "Somebody has measured on %s for over %g s; the training goes on beside it.",
                    " and ".join(self._devices),
                    self._patience_s,
                )
                _close(self._doors)
                self._devices, self._doors = (), []
                break
            time.sleep(PAUSED_LOOK_S)
        self._paused_s += time.perf_counter() - begun
        self.holds = True

    def leave(self) -> None:
        """Leave the devices idle to others."""
        if self._finish is not None and self._doors:
            self._finish()
        _release(self._doors)
        self.holds = False

    def clock(self) -> float:
        """Return the seconds of a clock that stood still during pauses; its start means nothing."""
        return time.perf_counter() - self._paused_s

    def _taken(self) -> bool:
        if all(door.open and _held(door.lock, shared=True) for door in self._doors):
            return True
        _release(self._doors)
        return False


@contextmanager
def alone_on(devices: Sequence[str], *, batch_s: float = BATCH_S, turn_s: float = TURN_S) -> Iterator[bool]:
    """Have devices to itself, once the batches that are under way on them have ended.

    Yields whether nobody else uses them; False after a time limit. Within another such block of its thread
    it adds what that one lacks, and within a share's it pauses that share.

    Args:
        devices: from `devices_of`, or a GPU's UUID alone.
        batch_s: how long to wait for batches.
        turn_s: how long to wait for other measurements.
    """
    # In one order for all, so that no two measurements hold what the other waits for.
    wanted = [name for name in sorted(set(devices)) if name not in _here.alone]
    doors = _open_doors(wanted)
    resting = [share for share in _here.shares if share.holds]
    for share in resting:
        share.leave()
    _here.alone.update(wanted)
    try:
        gates = [_held_within(door.gate, turn_s) for door in doors]
        locks = [_held_within(door.lock, batch_s) for door in doors] if all(gates) else [False]
        yield all(locks)
    finally:
        _here.alone.difference_update(wanted)
        _close(doors)
        for share in resting:
            share.take()


def warn_unlockable(devices: Sequence[str]) -> None:
    """Say once, as a warning, if trainings on these devices can't be paused."""
    doors = _open_doors(devices)
    for door in doors:
        _ = door.open
    _close(doors)


@dataclass(frozen=True, kw_only=True)
class _Door:
    """The open files of a device, as numbers."""

    gate: int
    lock: int

    @property
    def open(self) -> bool:
        """Whether nobody waits or measures behind it."""
        if not _held(self.gate, shared=True):
            return False
        _let_go(self.gate)
        return True


class _Here(threading.local):
    """What this thread holds."""

    def __init__(self) -> None:
        self.shares: list[DeviceShare] = []
        self.alone: set[str] = set()


_here = _Here()


def _open_doors(devices: Iterable[str]) -> list[_Door]:
    """Open the files of devices; none where they can't be locked."""
    doors: list[_Door] = []
    if fcntl is None:
        _warn_once("this system has no flock")
        return doors
    folder = cache_dir() / "devices"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in devices:
            gate, lock = (_opened(folder / f"{_on_this_machine(name)}.{kind}") for kind in ("gate", "lock"))
            doors.append(_Door(gate=gate, lock=lock))
    except OSError as error:
        _warn_once(str(error))
        _close(doors)
        return []
    return doors


def _opened(path: Path) -> int:
    """Open a file that stays when it is left; no program that this one starts inherits it."""
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


@functools.cache
def _on_this_machine(device: str) -> str:
    """Return a device's name in a cache that several machines may share: a GPU's UUID is its own."""
    if device != HOST:
        return device
    # The same in all containers of a machine, unlike its name.
    machine = BOOT.read_text().strip() if BOOT.is_file() else platform.node()
    return f"{device}-{machine}"


def _held(file: int, *, shared: bool) -> bool:
    """Lock a file if that is possible now. Where its file system has no locks, nobody is kept out."""
    try:
        fcntl.flock(file, fcntl.LOCK_NB | (fcntl.LOCK_SH if shared else fcntl.LOCK_EX))
    except BlockingIOError:
        return False
    except OSError as error:
        _warn_once(str(error))
    return True


def _held_within(file: int, seconds: float) -> bool:
    """Lock a file alone, as soon as that is possible."""
    begun = time.perf_counter()
    while not _held(file, shared=False):
        if time.perf_counter() - begun > seconds:
            return False
        time.sleep(LOOK_S)
    return True


def _let_go(file: int) -> None:
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_UN)


def _release(doors: Iterable[_Door]) -> None:
    for door in doors:
        _let_go(door.lock)


def _close(doors: Iterable[_Door]) -> None:
    for door in doors:
        for file in (door.gate, door.lock):
            _let_go(file)  # closing alone would leave it to a fork of this process that still has it open
            os.close(file)


@functools.cache
def _warn_once(reason: str) -> None:
    log.warning(
        "Trainings can't be paused while something is measured (%s): let nothing else run meanwhile.", reason
    )
