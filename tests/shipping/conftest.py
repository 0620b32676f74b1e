"""The pictures that files are made and judged with, the same for each module."""

import pytest
from small_run import parts_in, trained

from hkbench.shipping.parts import Parts


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Parts:
    return parts_in(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def network(parts):
    return trained(parts)
