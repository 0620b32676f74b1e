"""What a run says of the code that made it."""

import subprocess

import pytest

from hkbench.store.environment import git_state


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    command = ["git", "-C", folder, *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """Return a repository with the code in `package` and, outside its history, an environment."""
    for name in ("package", "venv"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "module.py").write_text("")
    git(tmp_path, "init")
    (tmp_path / ".gitignore").write_text("venv\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message", "first")
    return tmp_path


def test_a_checkout_has_its_commit_and_says_if_it_was_changed(repository):
    commit = git(repository, "rev-parse", "HEAD")
    assert git_state(repository / "package") == {"commit": commit, "dirty": False}
    (repository / "package" / "module.py").write_text("changed")
    assert git_state(repository / "package") == {"commit": commit, "dirty": True}


def test_an_environment_in_somebody_else_s_repository_has_no_commit(repository):
    assert git_state(repository / "venv") is None
    (repository / ".gitignore").unlink()
    assert git_state(repository / "venv") is None


def test_outside_a_repository_there_is_no_commit(tmp_path):
    assert git_state(tmp_path) is None
    assert git_state(tmp_path / "gone") is None
