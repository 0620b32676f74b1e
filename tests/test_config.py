"""How many cores there are to use where a container limits them."""

import os

import pytest

from hkbench.config import quota_cores, usable_cores


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("10000 100000\n", 1),
        ("max 100000\n", None),
        ("", None),
        ("100000 0\n", None),
    ],
)
def test_a_quota_of_version_2_is_whole_cores_rounded_up(tmp_path, text, cores):
    (tmp_path / "cpu.max").write_text(text)
    assert quota_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("350000\n", 4), ("-1\n", None), ("100000", 1)])
def test_a_quota_of_version_1_is_whole_cores_rounded_up(tmp_path, quota, cores):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert quota_cores(tmp_path) == cores


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert quota_cores(tmp_path) is None
    assert quota_cores(tmp_path / "gone") is None


def test_usable_cores_are_some_of_this_machine_s():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
