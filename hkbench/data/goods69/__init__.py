"""goods69: 69 classes of household goods, rendered from freely licensed 3D models, in the package."""

from importlib.resources import files
from pathlib import Path

from hkbench.data.parquet import open_parquet
from hkbench.data.source import Source
from hkbench.errors import HkbenchError

FILE = "pictures.parquet"


def open_source() -> Source:
    """Open goods69; its groups are the 3D models.

    Raises:
        HkbenchError: the pictures aren't in this installation.
    """
    path = Path(str(files(__name__) / FILE))
    if not path.is_file():
        raise HkbenchError(
            f"The pictures of goods69 are not at {path}. Render them in a checkout with "
            "'python -m tools.goods69 --models FOLDER --out hkbench/data/goods69', or name a folder of "
            "your own pictures."
        )
    return open_parquet(path, "goods69")
