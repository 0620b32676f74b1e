"""Training processes that start together: started once, then told round by round how to train."""

import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from hkbench.errors import HkbenchError

# -P: a file of the user's working directory must not pass for a library.
WORKER = (sys.executable, "-P", "-m", "hkbench.benchmark.packing_worker")
HEAD_START_S = 0.05
"""All workers train this long before their pictures count, so that none counts alone."""
GONE_WITHIN_S = 5.0
LONGEST_REASON = 500


class PackingPool:
    """Processes that train side by side.

    Args:
        job: a `TrainJob` as JSON; this module knows no torch, so that a look at the cache needs none.
        workers: how many processes there are to use.
        limit_s: all of them are ended after this, so that one that hangs ends the measurement.
        command: what a worker is.
    """

    def __init__(self, job: str, *, workers: int, limit_s: float, command: tuple[str, ...] = WORKER) -> None:
        self._limit_s = limit_s
        self._is_late = False
        self._trainers: list[_Trainer] = []
        try:
            for _ in range(workers):
                self._trainers.append(_Trainer(command))
        except OSError:
            self.close()
            raise
        self._watchdog = threading.Timer(limit_s, self._end_late)
        self._watchdog.daemon = True
        self._watchdog.start()
        for trainer in self._trainers:
            trainer.send(job)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchdog.cancel()
        self.close()

    def pictures_trained(self, *, workers: int, threads: int, seconds: float) -> float:
        """Let so many workers train with so many threads each; return the pictures of one common window.

        Raises:
            HkbenchError: a worker failed; with its reason.
        """
        training = self._trainers[:workers]
        for trainer in training:
            trainer.send(str(threads))
        for trainer in training:
            self._answer(trainer)  # it has warmed up
        start_s = time.perf_counter() + HEAD_START_S
        window = f'{{"start_s": {start_s!r}, "end_s": {start_s + seconds!r}}}'
        for trainer in training:
            trainer.send(window)
        return sum(float(self._answer(trainer)) for trainer in training)

    def close(self) -> None:
        """End all workers; they end by themselves when their orders do."""
        for trainer in self._trainers:
            trainer.hang_up()
        for trainer in self._trainers:
            trainer.wait()

    def _answer(self, trainer: "_Trainer") -> str:
        answer = trainer.receive()
        if answer is None:
            late = f"it took longer than {self._limit_s:g} s"
            reason = late if self._is_late else trainer.why_ended()
            raise HkbenchError(f"A training process of the packing measurement failed: {reason}.")
        return answer

    def _end_late(self) -> None:
        self._is_late = True
        for trainer in self._trainers:
            trainer.kill()


class _Trainer:
    """One process: what it is sent, what it answers, and how it ended."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `wait`
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def send(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: the missing answer tells
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def receive(self) -> str | None:
        """Return the next line, None from a process that has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return line.strip() if line.endswith("\n") else None

    def why_ended(self) -> str:
        """Say how the process ended: by which signal, or with which error."""
        code = self._process.wait()
        if code < 0:
            return f"it was ended by {signal.strsignal(-code) or f'signal {-code}'}"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:LONGEST_REASON].rstrip(".") if lines else f"it ended with exit code {code}"

    def kill(self) -> None:
        self._process.kill()

    def hang_up(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended before us
            self._process.stdin.close()

    def wait(self) -> None:
        assert self._process.stdout is not None
        try:
            self._process.wait(GONE_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()
