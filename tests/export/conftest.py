import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """On a shared machine a second thread makes small networks slower, up to five times."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
