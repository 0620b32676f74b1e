"""Where a file of weights comes from: a package, an address, or a repository of the Hugging Face hub.

Each origin knows where its own library would have kept the file (`found`) and how to bring it (`fetch`).
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import huggingface_hub
import torch
from huggingface_hub.errors import HfHubHTTPError

TIMEOUT_S = 5.0
"""How long the network may be silent before it counts as absent."""
OFFLINE_VARIABLES = ("HKBENCH_OFFLINE", "HF_HUB_OFFLINE")
# The hub's client passes on its HTTP library's errors, and which library that is changes with its version.
NETWORK_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    RuntimeError,
    *(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)),
)
"""What `fetch` may raise: no network, no such file, or a file that isn't the one that was promised."""


def offline() -> str | None:
    """Return the name of the environment variable that forbids the network; None where it is allowed."""
    for variable in OFFLINE_VARIABLES:
        if os.environ.get(variable, "").lower() in ("1", "true", "yes", "on"):
            return variable
    return None


class Origin(Protocol):
    """Where a file comes from; as text, what a person needs to get it."""

    def found(self) -> Path | None:
        """Return where the file lies on this machine, outside hkbench's own cache; None if it doesn't."""

    def fetch(self, place: Path, checksum: str | None) -> Path:
        """Bring the file over the network, to `place` or to its library's own cache, and return its path.

        Raises:
            OSError, RuntimeError: and the others of `NETWORK_ERRORS`.
        """


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """A file inside an installed Python package; `path` says where."""

    package: str
    path: Callable[[], str]

    def __str__(self) -> str:
        return f"the Python package {self.package}"

    def found(self) -> Path | None:
        """Return the file in the package."""
        path = Path(self.path())
        return path if path.is_file() else None

    def fetch(self, place: Path, checksum: str | None) -> Path:
        """Raise, for a package is brought by its installer."""
        del place, checksum
        raise FileNotFoundError(f"{self.package} is installed without its file")


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file at an address, as torch.hub downloads them."""

    url: str

    def __str__(self) -> str:
        return self.url

    def found(self) -> Path | None:
        """Return the file in torch.hub's cache."""
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(self.url).name
        return path if path.is_file() else None

    def fetch(self, place: Path, checksum: str | None) -> Path:
        """Download to `place`; the file appears there whole or not at all."""
        place.parent.mkdir(parents=True, exist_ok=True)
        with _impatient():
            torch.hub.download_url_to_file(self.url, str(place), hash_prefix=checksum, progress=False)
        return place


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file of a repository of the Hugging Face hub."""

    repository: str
    file: str = "model.safetensors"

    def __str__(self) -> str:
        return f"https://huggingface.co/{self.repository} ({self.file})"

    def found(self) -> Path | None:
        """Return the file in the hub's cache."""
        path = huggingface_hub.try_to_load_from_cache(self.repository, self.file)
        return Path(path) if isinstance(path, str) else None  # else it isn't there, or known not to exist

    def fetch(self, place: Path, checksum: str | None) -> Path:
        """Download to the hub's own cache."""
        del place, checksum  # the hub's client keeps and checks its files itself
        url = huggingface_hub.hf_hub_url(self.repository, self.file)
        huggingface_hub.get_hf_file_metadata(url, timeout=TIMEOUT_S)  # asked once; the download insists
        return Path(huggingface_hub.hf_hub_download(self.repository, self.file, etag_timeout=TIMEOUT_S))


@contextmanager
def _impatient() -> Iterator[None]:
    """Give new connections a timeout; torch.hub sets none of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
