import json
import shutil
import subprocess
import sys
from pathlib import Path

import benchmarks
from benchmarks.__main__ import claims

FINE = """
from benchmarks.claim import Claim, main
main(lambda quick: Claim(name="b_fine", value=2.0, unit="times", target="1", holds=True))
"""


def test_a_module_that_fails_stops_no_other(tmp_path):
    package = tmp_path / "benchmarks"
    package.mkdir()
    for name in ("__init__.py", "__main__.py", "claim.py"):
        shutil.copy(Path(benchmarks.__path__[0]) / name, package)
    (package / "a_broken.py").write_text("raise SystemExit(3)")
    (package / "b_fine.py").write_text(FINE)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks"], cwd=tmp_path, capture_output=True, text=True, env={}
    )
    assert done.returncode != 0
    assert "a_broken (failed)" in done.stderr
    assert "b_fine: 2 times" in done.stdout
    assert json.loads((tmp_path / "results/bench/b_fine.json").read_text())["value"] == 2
    assert not (tmp_path / "results/bench/a_broken.json").exists()
    assert (
        "| [`b_fine`](b_fine.json) | 2 times | 1 | holds |"
        in (tmp_path / "results/bench/README.md").read_text()
    )


def test_the_peers_are_no_claim():
    assert "search_speed" in claims()
    assert not {"peers", "claim", "__main__"} & set(claims())


def test_a_name_that_is_no_benchmark_is_refused():
    done = subprocess.run([sys.executable, "-m", "benchmarks", "kd_epok"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "no such benchmark: kd_epok. There are: driver_cost" in done.stderr
