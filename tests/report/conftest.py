"""Runs to make reports of."""

from pathlib import Path
from typing import Any

import pytest
from synthetic_run import MakeRun, write_run

from hkbench.store.rundir import RunDirectory


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a whole run, which no test changes."""
    return write_run(tmp_path_factory.mktemp("results") / "demo")


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Return a function that writes a run of a name into this test's folder."""

    def make(name: str = "run", **changes: Any) -> RunDirectory:
        return write_run(tmp_path / name, **changes)

    return make
