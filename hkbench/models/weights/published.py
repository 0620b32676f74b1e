"""One file of published weights: found here or brought, checked and read; and translations of keys."""

import functools
import hashlib
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hkbench.config import cache_dir
from hkbench.errors import UsageError
from hkbench.models.weights.origin import NETWORK_ERRORS, Origin, Packaged, offline

Tensors = Mapping[str, Tensor]
Translate = Callable[[Tensors, nn.Module], Tensors]
"""Takes a file's tensors and the body to be filled, and gives tensors under the body's keys."""

WRAPPERS = ("state_dict", "model")
"""Under which of its keys a training script's file holds the network's tensors."""


def unchanged(tensors: Tensors, body: nn.Module) -> Tensors:
    """Translate nothing: the file's keys are the body's."""
    del body
    return tensors


def renaming(rename: Callable[[str], str | None]) -> Translate:
    """Return a translation that renames key by key; None leaves a tensor out."""
    return lambda tensors, _: {
        name: tensor for key, tensor in tensors.items() if (name := rename(key)) is not None
    }


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """A file of weights by name, and where it comes from.

    `checksum` is the SHA-256 in hexadecimal, or its first digits where only these are known; None where
    none are. `licence` is its SPDX name, or an address.
    """

    file: str
    origin: Origin
    licence: str
    checksum: str | None = None

    @property
    def packaged(self) -> bool:
        """Whether the file comes with a package that hkbench depends on."""
        return isinstance(self.origin, Packaged)

    @property
    def place(self) -> Path:
        """Where hkbench keeps the file, and where a user can put it."""
        return cache_dir() / "weights" / self.file

    def found(self) -> Path | None:
        """Return where the file lies on this machine, looked for without the network; None if it doesn't."""
        return self.place if self.place.is_file() else self.origin.found()

    def fetch(self) -> Path:
        """Return the file, brought over the network if it isn't here.

        Raises:
            UsageError: it isn't here and can't be brought, or it isn't the file that was published.
        """
        path = self.found() or self._brought()
        if self.checksum is not None:
            status = path.stat()
            found = _sha256(path, status.st_size, status.st_mtime_ns)
            if not found.startswith(self.checksum):
                raise UsageError(
                    f"{path} isn't {self.file} as it was published: its SHA-256 should start with "
                    f"{self.checksum}, found {found[: len(self.checksum)]}; delete it, or bring it again "
                    f"from {self.origin}."
                )
        return path

    def _brought(self) -> Path:
        variable = offline()
        if variable is not None:
            raise self._absent(f"{variable} forbids the network")
        try:
            return self.origin.fetch(self.place, self.checksum)
        except NETWORK_ERRORS as error:
            reason = (str(error).splitlines() or [""])[0].rstrip(".")
            raise self._absent(f"bringing them failed ({type(error).__name__}: {reason})") from error

    def _absent(self, why: str) -> UsageError:
        checksum = f"starts with {self.checksum}" if self.checksum else "is stated there"
        return UsageError(
            f"The weights {self.file} aren't on this machine, and {why}: get the file from {self.origin} "
            f"and put it at {self.place}; its SHA-256 {checksum}."
        )


def checksum_in(file: str) -> str | None:
    """Return the digits of the SHA-256 that a file's name ends with, as torch.hub's names do."""
    found = re.search(r"-([0-9a-f]{8,64})\.pth$", file)
    return found[1] if found else None


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    """Return a file's SHA-256; its size and time are there to notice that it was replaced."""
    del size, changed_ns
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name, under its own keys; no code in it is run.

    Raises:
        UsageError: it can't be read, or holds more than named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise UsageError(
            f"{path} should be a file of named tensors, .safetensors or written by torch.save: {reason}."
        ) from error
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UsageError(f"{path} should hold the tensors of one network by name, found something else.")
    return dict(content)
