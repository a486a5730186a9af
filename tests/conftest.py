"""Every test starts from the same random state, on one thread: two workers share two cores."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_start():
    torch.manual_seed(0)
    torch.set_num_threads(1)
