"""`hkbench search` as a user runs it: a process with a cache, a home and a working folder of its own."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from hkbench.cli import console
from hkbench.cli.app import main

HKBENCH = Path(sys.executable).parent / "hkbench"
ENDS_WITHIN_S = 240
"""Far above what any of these commands takes: a hang fails, a busy machine doesn't."""


class Place:
    """A folder with all that commands may write to; nothing else of theirs should be found outside it."""

    def __init__(self, folder):
        self.folder = folder
        self.cache, self.home, self.work = (folder / name for name in ("cache", "home", "work"))
        for path in (self.home, self.work):
            path.mkdir(parents=True)
        self.out = folder / "run"

    @property
    def environment(self):
        return {
            **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
            "HKBENCH_CACHE": str(self.cache),
            "HOME": str(self.home),
            "OMP_NUM_THREADS": "1",
        }

    def start(self, *flags, **variables):
        """Start `hkbench search` with these flags, in a process group of its own, as a shell does."""
        return Command(
            subprocess.Popen(
                [HKBENCH, "search", *map(str, flags)],
                cwd=self.work,
                env=self.environment | variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )

    def run(self, *flags, **variables):
        """Run `hkbench search` to its end and return its exit code and standard error."""
        return self.start(*flags, **variables).end()

    def processes(self):
        """Return the processes that these commands, or what they started, have left."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process):
        try:
            return process.environ().get("HKBENCH_CACHE") == str(self.cache)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False


def command_line(*arguments, environment):
    """Run the command line in this process, to save its start; return (exit code, standard error)."""
    errors = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["hkbench", *map(str, arguments)])
        patch.setenv("HKBENCH_CACHE", environment["HKBENCH_CACHE"])
        patch.setattr(console.err, "_file", errors)  # its getter gives a file that is never put back
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code, errors.getvalue()


class Command:
    """A running command, its standard error read line by line."""

    def __init__(self, process):
        self.process = process
        self._lines = []

    def wait_for(self, text):
        """Read standard error until a line holds `text`."""
        for line in self.process.stderr:
            self._lines.append(line)
            if text in line:
                return line
        code, errors = self.end()
        raise AssertionError(f"ended with {code} before '{text}':\n{errors}")

    def interrupt(self, number=signal.SIGINT):
        """Signal the whole process group, as Ctrl-C on a terminal does."""
        os.killpg(self.process.pid, number)

    def stop_at_export(self):
        """Go on until the trials are through, and stop there; return standard error."""
        self.wait_for("export")
        self.interrupt()
        code, errors = self.end()
        assert code == 130, errors
        assert "Traceback" not in errors
        return errors

    def end(self):
        """Wait for the end and return (exit code, standard error)."""
        try:
            _, rest = self.process.communicate(timeout=ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise
        return self.process.returncode, "".join(self._lines) + rest
