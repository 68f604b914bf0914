"""Fixtures for all tests."""

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread():
    """The last bits of a network's numbers may depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
