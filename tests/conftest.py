"""What holds for every test: one thread, a cache of its own, and no skip whose cause is installed."""

import os
import shutil

os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch

# A busy machine is slow, not wrong.
hypothesis.settings.register_profile("no-deadline", deadline=None)
hypothesis.settings.load_profile("no-deadline")

INSTALLED = {
    "chromium": lambda: shutil.which("chromium") is not None,
    "C compiler": lambda: shutil.which("cc") is not None,
    "CUDA": torch.cuda.is_available,
}
"""What a skip's reason may name → whether it is here."""


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory):
    """Keep the user's cache and the network out of the tests, and their files out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HKBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HKBENCH_OFFLINE", "1")
        yield


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs CUDA, and torch finds no device"))


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    wrong = [
        name for name, here in INSTALLED.items() if any(name in str(r.longrepr) for r in skipped) and here()
    ]
    if wrong:
        terminalreporter.write_line(
            f"ERROR: tests were skipped for want of what is installed: {', '.join(wrong)}"
        )
        terminalreporter._session.exitstatus = pytest.ExitCode.TESTS_FAILED
