"""Renew the plotly.js bundle that a report carries: `python tools/vendor_plotly.py [VERSION]`.

Without a version it takes the one that the installed plotly.py was made for, so that the figures' JSON
and the code that draws them agree. Needs `npm` and the network.
"""

import gzip
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from plotly.offline import get_plotlyjs_version

PACKAGE = "plotly.js-cartesian-dist-min"
SCRIPT = "package/plotly-cartesian.min.js"
VENDOR = Path(__file__).parent.parent / "hkbench" / "report" / "vendor"


def main() -> None:
    """Fetch the package, check its version, and write the script, its licence and a note beside it."""
    version = sys.argv[1] if len(sys.argv) > 1 else get_plotlyjs_version()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", f"{PACKAGE}@{version}"], cwd=folder, check=True)
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as package:
            script, licence, about = (
                _member(package, name) for name in (SCRIPT, "package/LICENSE", "package/package.json")
            )
    VENDOR.mkdir(parents=True, exist_ok=True)
    (VENDOR / "plotly-cartesian.min.js.gz").write_bytes(gzip.compress(script, compresslevel=9, mtime=0))
    (VENDOR / "plotly-cartesian.LICENSE").write_bytes(licence)
    note = {
        "package": PACKAGE,
        "version": json.loads(about)["version"],
        "license": json.loads(about)["license"],
        "sha256": hashlib.sha256(script).hexdigest(),
        "renewed_by": "python tools/vendor_plotly.py",
    }
    (VENDOR / "plotly-cartesian.json").write_text(json.dumps(note, indent=2) + "\n")
    print(f"{PACKAGE} {note['version']}: {len(script):,} bytes, sha256 {note['sha256']}")


def _member(package: tarfile.TarFile, name: str) -> bytes:
    file = package.extractfile(name)
    if file is None:
        raise SystemExit(f"{PACKAGE} has no file {name}: its layout has changed, look at it.")
    return file.read()


if __name__ == "__main__":
    main()
