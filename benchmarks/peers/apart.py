"""Runs a peer in a process of its own, and ends all that it started."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from hkbench.errors import HkbenchError

ROOT = Path(__file__).parents[2]
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0"}
SHOWN_LINES = 20


def run_apart(module: str, question: Any) -> Any:
    """Run `python -m module QUESTION ANSWER` and return what it wrote to the file ANSWER, both JSON.

    Raises:
        HkbenchError: it failed; the last lines that it printed are in the message.
    """
    with tempfile.TemporaryDirectory(prefix="hkbench-peer-") as folder:
        asked, answer, printed = (Path(folder) / name for name in ("question", "answer", "printed"))
        asked.write_text(json.dumps(question))
        with printed.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", module, str(asked), str(answer)],
                env=_environment(folder),
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                code = process.wait()
            finally:
                _end(process)
        if code != 0 or not answer.is_file():
            last = "\n".join(printed.read_text(errors="replace").splitlines()[-SHOWN_LINES:])
            raise HkbenchError(f"The peer {module} ended with code {code} and no answer:\n{last}")
        return json.loads(answer.read_text())


def _environment(folder: str) -> dict[str, str]:
    """Return the environment of a user who has set nothing: Ray and torch choose their threads."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "RAY_ADDRESS")
    }
    # Without a token, Ray would leave one in the user's home.
    return {
        **kept,
        **QUIET,
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": folder,
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that is still running, with all its children."""
    if process.poll() is not None:
        return
    parent = psutil.Process(process.pid)
    family = [*parent.children(recursive=True), parent]
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(family, timeout=5)
