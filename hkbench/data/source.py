"""What a data set is to the rest of hkbench: named classes, and pictures that are read one by one."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Labelled pictures, still encoded.

    `labels` is int64 (N,), an index into `classes`. `ids` are unique; `groups` names the product that
    each picture shows, never one product in two classes, or is None where that isn't known.
    `fingerprint` is a hex hash of names, labels and the encoded bytes. `read(index)` returns the encoded
    bytes of one picture and can be pickled, so that a pool of processes can decode.
    """

    name: str
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    groups: tuple[str, ...] | None
    fingerprint: str
    read: Callable[[int], bytes]
