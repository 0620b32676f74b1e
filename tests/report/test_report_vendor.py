import gzip
import hashlib
import json
from importlib.resources import files

from plotly.offline import get_plotlyjs_version

VENDOR = files("hkbench.report") / "vendor"


def test_the_vendored_plotly_is_what_its_note_says_and_what_plotly_py_was_made_for() -> None:
    note = json.loads((VENDOR / "plotly-cartesian.json").read_text())
    script = gzip.decompress((VENDOR / "plotly-cartesian.min.js.gz").read_bytes())
    assert hashlib.sha256(script).hexdigest() == note["sha256"]
    assert note["version"].split(".")[0] == get_plotlyjs_version().split(".")[0]
    assert "MIT" in (VENDOR / "plotly-cartesian.LICENSE").read_text()
